"""The report's page: HTML and CSS around what `report` found out. One file, no links out of it, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #1d2126; --soft: #59636e; --line: #dfe3e8; --wash: #f5f7f9; --warn: #8a4b00; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0 .8rem; max-width: 44rem; }
.soft, figcaption, caption { color: var(--soft); }
.warn { border: 2px solid var(--warn); border-radius: 6px; padding: .6rem .8rem; max-width: none; background: #fff7ea; }
.wide { overflow-x: auto; margin: .75rem 0; }
.wide svg { display: block; width: 100%; min-width: 27rem; height: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
td { white-space: nowrap; }
td.n, th.n { text-align: right; }
td.long { min-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: .8rem 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 1rem; margin: .75rem 0; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
.pictures figure, figure { margin: 0; }
.pictures img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); display: block; }
.pictures figcaption { font-size: .8rem; line-height: 1.35; padding-top: .3rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
code { font-size: .85em; background: var(--wash); padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl.facts { grid-template-columns: 1fr; } dl.facts dd { margin-bottom: .5rem; } }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

NUMBER_START = "-+0123456789"


def page(title: str, body: Sequence[str]) -> str:
    """Return the whole page; `body` is HTML, `title` is plain text."""
    return _PAGE.substitute(title=escape(title), body="\n".join(body))


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; `kind` is "", "soft" or "warn"."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and what they are, as a list of definitions."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table that scrolls sideways on a narrow screen; columns of numbers are aligned to the right."""
    kinds = [_column_kind(column) for column in zip(*rows, strict=True)] if rows else [""] * len(head)
    cells = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _column_kind(cells: Sequence[str]) -> str:
    """Return the class attribute of a column: numbers, long texts, or nothing."""
    if all(cell == "" or (cell[0] in NUMBER_START and len(cell) < 12 and " to " not in cell) for cell in cells):
        return ' class="n"'
    return ' class="long"' if max(len(cell) for cell in cells) > 40 else ""


def drawing(svg: str, caption: str) -> str:
    """Return a drawing with its caption; `svg` is an <svg> element."""
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def pictures(items: Sequence[tuple[str, str, str]]) -> str:
    """Return pictures side by side.

    Args:
        items: data URI, what it shows for those who cannot see it, and caption of each.
    """
    shown = "".join(
        f'<figure><img src="{uri}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for uri, alt, caption in items
    )
    return f'<div class="pictures">{shown}</div>'


def collapsed(summary: str, body: str) -> str:
    """Return a part that opens when its summary is chosen; `body` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
