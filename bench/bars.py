"""Horizontal bars as SVG, on a logarithmic scale: no library for one picture."""

import html
import math
from collections.abc import Mapping, Sequence

from outcome import number

LABEL, BAR, LINE, WIDTH = 250, 440, 22, 780


def bars(panels: Mapping[str, Mapping[str, float]], unit: str, ours: Sequence[str]) -> str:
    """One panel below the other, each sorted, cheapest first; bars whose name is in `ours` stand out."""
    values = [value for panel in panels.values() for value in panel.values()]
    low = math.log(min(values)) - 0.7
    scale = BAR / (math.log(max(values)) - low)
    parts, y = list[str](), 0
    for title, panel in panels.items():
        y += LINE + 10
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{html.escape(title)}</text>')
        for name, value in sorted(panel.items(), key=lambda pair: pair[1]):
            y += LINE
            long = (math.log(value) - low) * scale
            colour = "#1a7f5a" if name in ours else "#9aa4b2"
            parts += (
                f'<text x="{LABEL - 8}" y="{y}" text-anchor="end">{html.escape(name)}</text>',
                f'<rect x="{LABEL}" y="{y - 13}" width="{long:.0f}" height="16" rx="2" fill="{colour}"/>',
                f'<text x="{LABEL + long + 6:.0f}" y="{y}">{number(value)} {unit}</text>',
            )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16}" font-family="sans-serif" '
        f'font-size="13" fill="#1f2933">\n<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
