"""A comparison as one page of HTML that needs no other file, no network and no script."""

import base64
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unclip.comparison.experiments import Comparison, Row
from unclip.pictures.png import as_image, encode_png

if TYPE_CHECKING:
    from unclip.painting.painted import Painted

STYLE = """
:root { color-scheme: light dark; --paper: #fafaf7; --ink: #1f2328; --muted: #6e7074;
  --line: #d8d8d2; --raised: #ffffff; --best: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e6e1; --muted: #9a9ca0;
  --line: #34373b; --raised: #1d2024; --best: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2.5rem clamp(1rem, 4vw, 3.5rem) 3rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; }
p { margin: .25rem 0; color: var(--muted); max-width: 70ch; }
.wide { overflow-x: auto; margin-top: 1.75rem; }
table { border-collapse: separate; border-spacing: 0; }
th, td { padding: .3rem 1.75rem .3rem 0; text-align: left; vertical-align: top; }
thead th { padding-bottom: .75rem; font-size: 1.05rem; overflow-wrap: anywhere; }
thead small { display: block; color: var(--muted); font-weight: 400; font-size: .8rem; }
tbody th { position: sticky; left: 0; background: var(--paper); font-weight: 400;
  color: var(--muted); max-width: 15rem; min-width: 11.5rem; overflow-wrap: anywhere; }
tbody tr:hover td, tbody tr:hover th { background: var(--raised); }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
td.best { font-weight: 650; color: var(--best); }
tr.section th { padding-top: 1.75rem; color: var(--ink); font-weight: 650;
  border-bottom: 1px solid var(--line); max-width: none; }
tr.section:hover th { background: var(--paper); }
tr.pictures th { color: var(--ink); vertical-align: middle; }
.pictures td > div { display: flex; gap: .5rem; }
img { width: 128px; height: 128px; object-fit: contain; image-rendering: pixelated;
  border: 1px solid var(--line); border-radius: 3px; background: var(--raised); }
footer { margin-top: 2rem; } code { font-size: .9em; overflow-wrap: anywhere; }
"""


def comparison_page(comparison: Comparison, command: str) -> str:
    """Returns the page of a comparison; it ends with the command that makes it again."""
    experiments = comparison.experiments
    names = " · ".join(experiment.name for experiment in experiments)
    heads = "".join(
        f"<th scope=col>{escape(e.name)}<small>{escape(e.origin)}</small></th>" for e in experiments
    )
    width = len(experiments) + 1
    body = [
        *_section("Figures", comparison.figures, width),
        *_section("Changed params", comparison.params, width),
        _title("Pictures", width),
    ]
    for prompt, row in zip(comparison.prompts, comparison.painted, strict=True):
        cells = "".join(f"<td>{_pictures(painted)}</td>" for painted in row)
        body.append(f"<tr class=pictures><th scope=row>{escape(prompt)}</th>{cells}</tr>")
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in comparison.remarks)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(names)}</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>{escape(names)}</h1><p>The same prompts, painted from the same noise.</p>\n"
        f"<div class=wide><table><thead><tr><td></td>{heads}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody></table></div>\n<footer>{remarks}<p><code>{escape(command)}</code></p>"
        "</footer></body></html>\n"
    )


def _title(title: str, width: int) -> str:
    return f"<tr class=section><th colspan={width} scope=colgroup>{escape(title)}</th></tr>"


def _section(title: str, rows: list[Row], width: int) -> list[str]:
    lines = [_title(title, width)] if rows else []
    for row in rows:
        cells = "".join(
            f"<td{' class=best' if row.best == column else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row.cells)
        )
        lines.append(f"<tr><th scope=row>{escape(row.label)}</th>{cells}</tr>")
    return lines


def _pictures(painted: "Painted | None") -> str:
    if painted is None:
        return ""
    pictures = "".join(
        f'<img src="{_data_uri(picture, note)}" alt="{escape(note["prompt"])}, '
        f'seed {note["seed"]}" title="seed {note["seed"]}">'
        for picture, note in painted
    )
    return f"<div>{pictures}</div>"


def _data_uri(picture: npt.NDArray[np.uint8], note: dict[str, str]) -> str:
    """Returns a picture (C, H, W) as a PNG in its own size, with its note, in a data URI."""
    encoded = base64.b64encode(encode_png(as_image(picture), note))
    return f"data:image/png;base64,{encoded.decode('ascii')}"
