"""Incident pages in a real headless Chromium: both themes, three widths, by axe, with hostile text, without scripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Running, needs
from playwright.sync_api import Browser, Page, sync_playwright
from support import site_with_incidents as site
from support.injections import INJECTIONS

from sidecar.text import escape

pytestmark = pytest.mark.slow

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTHS = (320, 768, 1440)
LINKS = {"Grafana": "https://grafana.example/explore?from={first_ms}"}

ALL = pytest.mark.parametrize(("theme", "width"), [(theme, width) for theme in THEMES for width in WIDTHS])


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with site.running(links=LINKS) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=needs("chromium"), args=["--no-sandbox"])
        yield launched
        launched.close()


@contextmanager
def opened(
    browser: Browser, service: Running, path: str, theme: Theme = "light", width: int = 1440, **more: Any
) -> Iterator[Page]:
    """A page that must not complain about anything."""
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900}, **more)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    answer = page.goto(f"http://127.0.0.1:{service.service.admin_port}{path}")
    assert answer is not None
    assert answer.status == 200
    yield page
    context.close()
    assert complaints == []


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@ALL
@pytest.mark.parametrize("path", ["/?limit=200", f"/incidents/{site.DEMO}", f"/incidents/{site.LONG}"])
def test_it_fits_and_axe_finds_nothing(browser: Browser, service: Running, path: str, theme: Theme, width: int) -> None:
    with opened(browser, service, path, theme, width) as page:
        assert overflow(page) <= 0
        assert violations(page) == []


def test_every_recorded_scenario_has_its_page_and_report(browser: Browser, service: Running) -> None:
    with opened(browser, service, "/?limit=200", width=320) as page:
        paths = [link.get_attribute("href") or "" for link in page.locator("tbody a").all()]
    assert len(paths) > 20
    for number, path in enumerate(paths):
        with opened(browser, service, path, width=320) as page:
            assert page.locator("h1").inner_text()
            assert page.locator(".timeline > li").count() >= 1
            assert page.locator(".groups li").count() == 4
            assert overflow(page) <= 0
            assert number % 5 or violations(page) == []


@ALL
def test_hostile_text_is_text(browser: Browser, service: Running, theme: Theme, width: int) -> None:
    with opened(browser, service, f"/incidents/{site.HOSTILE}", theme, width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        commands = page.locator(".timeline .what > pre code").evaluate_all("all => all.map(each => each.textContent)")

        assert commands == [escape.terminal(text) for text in INJECTIONS]
        assert (
            page.locator(
                "main img, main script, main iframe, main form, main style, main svg:not(.picture, .legend svg)"
            ).count()
            == 0
        )
        assert overflow(page) <= 0
        assert (theme, width) not in (("light", 1440), ("dark", 320)) or violations(page) == []


def test_it_works_with_scripts_off(browser: Browser, service: Running) -> None:
    with opened(browser, service, "/", java_script_enabled=False) as page:
        page.get_by_role("checkbox", name="Critical").check()
        page.get_by_role("searchbox").fill("web-7d9f8b6c5")
        page.get_by_role("button", name="Show").click()
        assert page.locator("caption").inner_text() == "1 incident"
        page.get_by_role("link", name="Full Web Application Compromise").click()
        assert page.locator("h1").inner_text() == "Full Web Application Compromise"
        assert page.locator(".steps li").count() == 9
        assert page.locator("button:visible").count() == 0
        with page.expect_download() as download:
            page.get_by_role("link", name="Download report").click()
        assert download.value.suggested_filename == f"incident-{site.DEMO}.html"


def test_the_report_is_complete_without_the_service(browser: Browser, service: Running, tmp_path: Any) -> None:
    file = tmp_path / "report.html"
    file.write_text(service.get(f"/incidents/{site.DEMO}/report.html")[1])
    context = browser.new_context(offline=True, viewport={"width": 320, "height": 900})
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())

    assert (overflow(page), violations(page), complaints) == (0, [], [])
    assert page.locator(".timeline > li").count() >= 3
    context.close()


def test_the_copy_button_copies_the_command(browser: Browser, service: Running) -> None:
    with opened(browser, service, f"/incidents/{site.DEMO}", permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_text("Copied").first.wait_for()

        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command-1").inner_text()


def test_where_the_clipboard_is_forbidden_the_button_selects_the_command(browser: Browser, service: Running) -> None:
    with opened(browser, service, f"/incidents/{site.DEMO}") as page:
        page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
        page.get_by_role("button", name="Copy").first.click()
        page.wait_for_function("getSelection().toString() !== ''")

        assert page.evaluate("getSelection().toString()") == page.locator("#command-1").inner_text()


def test_the_keyboard_reaches_everything_and_its_focus_is_seen(browser: Browser, service: Running) -> None:
    with opened(browser, service, f"/incidents/{site.DEMO}") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            name = page.evaluate("document.activeElement.textContent.trim()")
            assert (
                name.startswith("Falco Correlator 0")
                or outline == "solid"
                or page.evaluate("document.activeElement === document.body")
            )
            reached.add(name)

        assert {"All incidents", "Grafana", "Download report", "JSON", "Copy", "API"} <= reached


def test_links_lead_where_they_were_configured_and_give_nothing_away(browser: Browser, service: Running) -> None:
    with opened(browser, service, f"/incidents/{site.DEMO}") as page:
        link = page.get_by_role("link", name="Grafana")

        assert (link.get_attribute("href") or "").startswith("https://grafana.example/explore?from=17")
        assert link.get_attribute("rel") == "noreferrer noopener"
