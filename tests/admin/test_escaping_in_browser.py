"""What a real browser makes of an attacker's text, escaped for a page: text."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import needs
from support.injections import INJECTIONS

from sidecar.text import escape

pytestmark = pytest.mark.slow

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PAGE = """<!doctype html><meta charset="utf-8"><title>x</title>
<script>
  var hits = 0;
  window.alert = window.prompt = window.confirm = window.print = window.fetch = function () { hits++; };
  window.onerror = function () { hits++; };
</script>
<div id="box">%s</div><pre id="report"></pre>
<script>
  window.addEventListener('load', function () {
    var box = document.getElementById('box'), names = {};
    box.querySelectorAll('*').forEach(function (e) {
      names[e.tagName + Array.from(e.attributes).map(function (a) { return ' ' + a.name; }).join('')] = 1;
    });
    var shown = Array.from(box.children).map(function (e) { return [e.textContent, e.title]; });
    document.getElementById('report').textContent = JSON.stringify({hits: hits, names: Object.keys(names), shown: shown});
  });
</script>"""


def rendered(body: str, folder: Path) -> dict[str, object]:
    """What the page says of itself after everything on it has run."""
    page = folder / "page.html"
    page.write_text(PAGE.replace("%s", body))
    command = [needs("chromium"), *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    shown = re.search(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL)
    assert shown
    return json.loads(html.unescape(shown[1]))  # type: ignore[no-any-return]


def test_every_injection_shows_as_text_and_nothing_of_it_lives(tmp_path: Path) -> None:
    escaped = [html.escape(escape.terminal(text)) for text in INJECTIONS]
    shown = rendered("".join(f'<p title="{text}">{text}</p>' for text in escaped), tmp_path)

    assert shown["hits"] == 0
    assert shown["names"] == ["P title"]
    assert shown["shown"] == [[escape.terminal(text)] * 2 for text in INJECTIONS]


def test_without_escaping_the_browser_would_have_run_some_of_them(tmp_path: Path) -> None:
    shown = rendered("<p><img src=x onerror=alert(1)></p>", tmp_path)

    assert shown["hits"]
