# SPDX-License-Identifier: BSD-3-Clause
"""How `page` looks: marks as SVG symbols, and style sheets."""

from __future__ import annotations

from .chart import COLOURS, GROUNDS

# Around (0, 0), some 9 wide. Hollow ones have lines only, which no style sheet could tell them: its
# rules see what `use` copies without what stands around it.
HOLLOW = 'fill="none" stroke-width="2"'
_SHAPES = {
    "circle": '<circle r="4.5"/>',
    "ring": f'<circle r="4" {HOLLOW}/>',
    "square": '<rect x="-4" y="-4" width="8" height="8"/>',
    "box": f'<rect x="-3.5" y="-3.5" width="7" height="7" {HOLLOW}/>',
    "up": '<path d="M0-5 5 4H-5z"/>',
    "hollow-up": f'<path d="M0-4.5 4.5 3.5H-4.5z" {HOLLOW}/>',
    "down": '<path d="M0 5 5-4H-5z"/>',
    "hollow-down": f'<path d="M0 4.5 4.5-3.5H-4.5z" {HOLLOW}/>',
    "diamond": '<path d="M0-5.5 5.5 0 0 5.5-5.5 0z"/>',
    "cross": f'<path d="M-4-4 4 4M-4 4 4-4" {HOLLOW}/>',
    "plus": f'<path d="M-5 0H5M0-5V5" {HOLLOW}/>',
    "bar": f'<path d="M0-5V5" {HOLLOW}/>',
}
MARKS = (
    '<svg width="0" height="0" class="fb-marks" aria-hidden="true"><defs>'
    + "".join(f'<g id="fb-{name}">{shape}</g>' for name, shape in _SHAPES.items())
    + "</defs></svg>"
)


def _colours(number: int) -> str:
    return "".join(f"--fb-{name}:{pair[number]};" for name, pair in COLOURS.items())


# A page around this may say which of both it is, as furo does, in data-theme of its body.
STYLE = (
    f".fb{{{_colours(0)}}}"
    "@media (prefers-color-scheme:dark)"
    f"{{body:not([data-theme=light]) .fb,body.fb{{{_colours(1)}}}}}"
    f"body[data-theme=dark] .fb{{{_colours(1)}}}"
    + "".join(f".fb-{name}{{fill:var(--fb-{name});stroke:var(--fb-{name})}}" for name in COLOURS)
    + """
.fb{container-type:inline-size}
.fb use{stroke-width:1}
.fb .fb-dots use{opacity:.7}
.fb .fb-dots .fb-line:not(.fb-axis){height:auto;margin-bottom:.4rem}
.fb .fb-dots .fb-line:not(.fb-axis) .fb-track{height:var(--fb-lanes)}
.fb .fb-marks{position:absolute}
.fb .fb-legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.6rem 0;font-size:.85rem}
.fb .fb-legend span{display:inline-flex;align-items:center;gap:.3rem}
.fb .fb-charts{display:grid;grid-template-columns:minmax(0,19fr) minmax(0,11fr) minmax(0,8fr);
gap:0 1rem}
.fb .fb-charts.fb-dots{grid-template-columns:minmax(0,23fr) minmax(0,13fr)}
.fb .fb-title{font-size:.8rem;font-weight:600;height:2.4em;line-height:1.2}
.fb .fb-line{display:grid;grid-template-columns:13rem minmax(0,1fr) 4.2rem;gap:0 .5rem;
height:2.1rem;align-items:center}
.fb .fb-chart:not(:first-child) .fb-line{grid-template-columns:minmax(0,1fr) 3rem}
.fb .fb-chart:not(:first-child) .fb-label{display:none}
.fb .fb-axis{height:1.2rem}
.fb .fb-label{font-size:.85rem;line-height:1.15;overflow:hidden;white-space:nowrap;
text-overflow:ellipsis}
.fb .fb-label small{display:block;font-size:.72rem;opacity:.75;overflow:hidden;
text-overflow:ellipsis}
.fb .fb-track{width:100%;height:22px;overflow:visible;display:block}
.fb .fb-axis .fb-track{height:16px}
.fb .fb-track text{font-size:11px;text-anchor:middle;fill:currentColor;opacity:.8}
.fb .fb-grid{stroke:currentColor;opacity:.15}
.fb .fb-one{stroke:currentColor;opacity:.6}
.fb .fb-note{font-size:.8rem;font-variant-numeric:tabular-nums;white-space:nowrap}
.fb details{margin:.6rem 0 1.2rem}
.fb summary{cursor:pointer;font-size:.85rem}
.fb .fb-wide{overflow-x:auto}
.fb .fb-wide table{border-collapse:collapse;font-size:.8rem;font-variant-numeric:tabular-nums}
.fb .fb-wide th,.fb .fb-wide td{padding:.2rem .5rem;text-align:right;white-space:nowrap;
border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
.fb .fb-wide th:first-child,.fb .fb-wide td:first-child,.fb .fb-wide th:nth-child(2),
.fb .fb-wide td:nth-child(2){text-align:left}
@container (max-width:60rem){
.fb .fb-line{grid-template-columns:8.5rem minmax(0,1fr) 3.8rem}
.fb .fb-label{font-size:.78rem}
}
@container (max-width:38rem){
.fb .fb-charts,.fb .fb-charts.fb-dots{grid-template-columns:minmax(0,1fr)}
.fb .fb-title{height:auto;margin-top:.8rem}
.fb .fb-line,.fb .fb-chart:not(:first-child) .fb-line{grid-template-columns:minmax(0,1fr) 4rem;
height:auto}
.fb .fb-chart .fb-label,.fb .fb-chart:not(:first-child) .fb-label{display:block;grid-column:1/-1;
margin-top:.3rem}
.fb .fb-axis .fb-label{display:none!important}
.fb .fb-label small{display:inline;margin-left:.5rem}
}
"""
)
PAGE_STYLE = f"""
body{{margin:0 auto;padding:1rem;max-width:86rem;font:1rem/1.45 system-ui,sans-serif;
background:{GROUNDS[0]};color:#1a1d22}}
@media (prefers-color-scheme:dark){{body{{background:{GROUNDS[1]};color:#e4e7eb}}
a{{color:#8fc4f5}}}}
h1{{font-size:1.5rem}}
h2{{font-size:1.25rem;margin-top:2rem}}h3{{font-size:1.1rem;margin-top:1.6rem}}
h4{{font-size:.95rem;margin:1.4rem 0 .2rem}}
nav{{font-size:.85rem}}nav p{{margin:.3rem 0}}nav a{{margin-right:.7rem}}
ul{{padding-left:1.2rem;font-size:.85rem}}
header p{{max-width:48rem;font-size:.9rem}}
"""
