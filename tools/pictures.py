"""Pictures of what arrives behind Falcosidekick, for docs/integrations.md: `make pictures`.

Drawn from the payloads of the real Falcosidekick and the real Alertmanager; the frames around them are ours.
"""

import json
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from support.integrations import Captured, demo
from support.real_falcosidekick import OPSGENIE, PAGERDUTY

IMAGES = Path(__file__).parent.parent / "docs" / "img" / "integrations"

STYLE = """
body { margin: 0; padding: 20px; width: 720px; background: #fff; color: #1d1c1d; font: 15px/1.45 sans-serif; }
.card { border: 1px solid #d0d3d9; border-radius: 6px; padding: 12px 16px; margin-bottom: 12px; overflow-wrap: anywhere; }
.bar { border-left: 4px solid; } h3 { margin: 0 0 4px; font-size: 15px; } p { margin: 4px 0; }
.who { color: #5c6370; font-size: 13px; } .muted { opacity: .55; } a { color: #1264a3; text-decoration: none; }
.dark { background: #2b2d31; color: #dbdee1; } .grid { display: grid; grid-template-columns: repeat(3, 1fr); gap: 8px; }
.grid b { font-size: 13px; } pre { margin: 2px 0; padding: 4px 6px; background: #1e1f22; font: 12px/1.3 monospace;
white-space: pre-wrap; border-radius: 4px; } table { border-collapse: collapse; font-size: 13px; width: 100%; }
td { border-top: 1px solid #e3e5e9; padding: 3px 10px 3px 0; vertical-align: top; } td:first-child { color: #5c6370; white-space: nowrap; width: 1%; }
.tag { display: inline-block; border-radius: 3px; padding: 0 6px; color: #fff; background: #b3261e; font-size: 12px; }
.tag.low { background: #6b7280; }
"""


def rows(values: dict[str, Any]) -> str:
    """A table of names and values."""
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f"<table>{''.join(lines)}</table>"


def slack(captured: Captured) -> str:
    """Both steps, as with the settings of the page."""
    cards = []
    for body in captured.receivers.bodies["slack"]:
        bold, _, link = body["text"].partition(" <")
        address, _, text = link.rstrip(">").partition("|")
        (attachment,) = body["attachments"]
        cards.append(
            f'<p class="who">Falcosidekick <i>app</i></p><p><b>{escape(bold.strip("*"))}</b> '
            f'<a href="{escape(address)}">{escape(text)}</a></p>'
            f'<div class="card bar" style="border-left-color:{attachment["color"]}">{escape(attachment["text"])}</div>'
        )
    return "".join(cards)


def discord(captured: Captured) -> str:
    """The last step."""
    (embed,) = captured.receivers.bodies["discord"][-1]["embeds"]
    fields = "".join(
        f"<div><b>{escape(field['name'])}</b>"
        + (
            f"<pre>{escape(field['value'].strip('`'))}</pre>"
            if "`" in field["value"]
            else f"<p>{escape(field['value'])}</p>"
        )
        + "</div>"
        for field in embed["fields"]
    )
    color = f"#{int(embed['color']):06x}"
    return (
        f'<div class="card bar dark" style="border-left-color:{color}"><p>{escape(embed["description"])}</p>'
        f'<div class="grid">{fields}</div></div>'
    )


def pagerduty(captured: Captured) -> str:
    """What Alertmanager sends for both steps, and Falcosidekick's own output below."""
    events = captured.receivers.bodies["am-pagerduty"]
    own = captured.receivers.bodies[PAGERDUTY][-1]
    cards = [
        f'<div class="card{" muted" if event is not events[-1] else ""}"><h3>{escape(event["payload"]["summary"])}</h3>'
        + rows({"severity": event["payload"]["severity"], "dedup_key": event["dedup_key"], "url": event["client_url"]})
        + "</div>"
        for event in events
    ]
    details = {name: own["payload"]["custom_details"][name] for name in sorted(own["payload"]["custom_details"])}
    return (
        f'<p class="who">Through Alertmanager: one incident, updated</p>{"".join(cards)}'
        f'<p class="who">From Falcosidekick itself: one incident for each step</p>'
        f'<div class="card"><h3>{escape(own["payload"]["summary"])}</h3>'
        f"{rows({'severity': own['payload']['severity'], **details})}</div>"
    )


def opsgenie(captured: Captured) -> str:
    """The same for Opsgenie."""
    through = [body for body in captured.receivers.bodies["am-opsgenie"] if "alias" in body][-1]
    own = captured.receivers.bodies[OPSGENIE][-1]
    kept, rest = own["message"][:130], own["message"][130:]
    return (
        f'<p class="who">Through Alertmanager</p><div class="card"><span class="tag">{through["priority"]}</span> '
        f"<b>{escape(through['message'])}</b><p>{escape(through['description'])}</p>{rows({'alias': through['alias']})}</div>"
        f'<p class="who">From Falcosidekick itself: what is grey is beyond 130 characters</p><div class="card">'
        f'<span class="tag">{own["priority"]}</span> <b>{escape(kept)}</b><span class="muted">{escape(rest)}</span>'
        f"{rows(dict(sorted(own['details'].items())))}</div>"
    )


def alertmanager(captured: Captured) -> str:
    """The group of the incident."""
    cards = []
    for alert in sorted(captured.alerts, key=lambda each: each["labels"]["incident_step"], reverse=True):
        labels, state = alert["labels"], alert["status"]["state"]
        shown = (
            "alertname",
            "severity",
            "incident_severity",
            "incident_step",
            "k8s_ns_name",
            "k8s_pod_name",
            "hostname",
        )
        cards.append(
            f'<div class="card{" muted" if state != "active" else ""}"><span class="tag{" low" if state != "active" else ""}">'
            f"{'inhibited' if alert['status']['inhibitedBy'] else state}</span> ends {alert['endsAt'][:19]}Z"
            f"<p>{escape(alert['annotations']['description'])}</p>{rows({name: labels[name] for name in shown})}</div>"
        )
    group = captured.alerts[0]["labels"]["incident_id"]
    return f'<p class="who">incident_id="{group}" &middot; {len(cards)} alerts, 1 active</p>{"".join(cards)}'


def elasticsearch(captured: Captured) -> str:
    """The document of the last step."""
    document = captured.receivers.bodies["elasticsearch"][-1]
    fields = {f"output_fields.{name}": value for name, value in sorted(document.pop("output_fields").items())}
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}
    return f'<div class="card">{rows({**dict(sorted(plain.items())), **fields})}</div>'


def main(chromium: str) -> None:
    """Make every picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    drawings = (slack, discord, pagerduty, opsgenie, alertmanager, elasticsearch)
    with tempfile.TemporaryDirectory() as folder, demo(Path(folder)) as captured, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 200})
        for drawing in drawings:
            page.set_content(f"<style>{STYLE}</style><body>{drawing(captured)}</body>")
            page.screenshot(path=IMAGES / f"{drawing.__name__}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
