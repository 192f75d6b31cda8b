"""Pictures of the pages for the documents: `make screenshots`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from conftest import fed
from msgspec.structs import replace
from playwright.sync_api import sync_playwright
from support.rules import RULES, WEB_RCE
from support.site_with_incidents import DEMO, running

from sidecar.cli.demo import recording
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification

IMAGES = Path(__file__).parent.parent / "docs" / "img"
MINUTE = 60 * 1_000_000_000
PODS = ("checkout-6f7c9d-kq2xz", "catalog-84b5c7-m9dlp", "cms-5c8d7f-tt6rw", "search-79fd5b-x4hvn", "reports-0")


def notifications(now: int) -> Iterator[Notification]:
    """The demo's incident three minutes ago, and five older ones."""
    for note in fed(Pipeline(RULES, lambda: 0.0), recording(now - 3 * MINUTE)):
        yield replace(note, incident=DEMO)
    stories = [test for test in WEB_RCE.written.tests if test.expect][1:]
    for number, (pod, story) in enumerate(zip(PODS, stories, strict=False), 1):
        for note in fed(Pipeline(RULES, lambda: 0.0), alerts(WEB_RCE, story.alerts)):
            last = now - number * number * 19 * MINUTE
            where = note.where._replace(pod=pod, namespace="shop", container_name=pod.partition("-")[0])
            name = f"{number * 7919 % 65536:04x}{note.incident[4:]}"
            yield replace(note, incident=name, where=where, last=last, closes=last + 60 * MINUTE)


def main(chromium: str) -> None:
    """Make every picture."""
    links = {"Falcosidekick UI": "http://falcosidekick-ui:2802/", "Grafana": "http://grafana/"}
    with running(notifications(time.time_ns()), links=links) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            for width in (320, 768, 1440):
                for name, path in (("incidents", "/"), ("incident", f"/incidents/{DEMO}")):
                    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
                    page = context.new_page()
                    page.goto(f"http://127.0.0.1:{service.service.admin_port}{path}")
                    page.screenshot(path=IMAGES / f"{name}-{theme}-{width}.png")
                    context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
