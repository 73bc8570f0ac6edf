"""The frame of every HTML page that drtool writes: one self-contained file, in light and dark.

Invariants
    No script, font, picture or address from elsewhere; the page's own policy forbids them. All text is escaped.
    No information is given by colour alone: every mark has a word.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

from msgspec import Struct

from drtool.escaping import printable_lines

Tone = Literal["good", "bad", "warn", "dim", ""]


class Markup(str):
    """Text that is already HTML. All other text is escaped when it is inserted."""

    __slots__ = ()


def html(value: object) -> str:
    """Return a value for the page: markup unchanged, anything else escaped."""
    return value if isinstance(value, Markup) else escape(printable_lines(str(value)))


def tag(name: str, *inner: object, **attributes: object) -> Markup:
    """Return an element: `tag("td", text, cls="figure")`. `cls` is its class, and `_` in a name stands for `-`."""
    words = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{html(value)}"'
        for key, value in attributes.items()
        if value not in (None, "")
    )
    return Markup(f"<{name}{words}>{''.join(map(html, inner))}</{name}>")


def badge(word: str, tone: Tone) -> Markup:
    return tag("span", word, cls=f"badge {tone}".strip())


class Column(Struct, frozen=True):
    title: str
    figure: bool = False
    """Whether it contains numbers, which are right-aligned."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], caption: str) -> Markup:
    """Return a table that scrolls in a narrow window. The caption is for screen readers."""
    head = (tag("th", column.title, scope="col", cls="figure" if column.figure else "") for column in columns)
    body = (
        tag(
            "tr",
            *(
                tag("td", cell, cls="figure" if column.figure else "")
                for column, cell in zip(columns, row, strict=True)
            ),
        )
        for row in rows
    )
    inner = (tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", tag("table", *inner), cls="scroll", tabindex="0", role="region", aria_label=caption)


def section(title: str, *inner: object, anchor: str = "") -> Markup:
    return tag("section", tag("h2", title, id=anchor), *inner)


def facts(rows: Iterable[tuple[str, object]]) -> Markup:
    """Return names and values as a list, without empty ones."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value not in (None, "")),
        cls="facts",
    )


def document(title: str, *body: object) -> str:
    """Return the whole page."""
    return _PAGE.format(title=html(title), style=_STYLE, body="\n".join(map(html, body)))


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root {
  --paper: #fbfbf9; --card: #ffffff; --ink: #1d2125; --soft: #5c646c; --line: #dfe2e4;
  --good: #1a6b3c; --good-back: #e2f2e7; --bad: #a3201d; --bad-back: #fbe6e4; --warn: #7a5200; --warn-back: #fbf0d5;
  --accent: #2a5d9c; --bar-good: #4f9d6d; --bar-bad: #cf5a51; --bar-warn: #c8982f; --bar-dim: #a9b0b6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #a2abb3; --line: #333a40;
    --good: #7fd3a0; --good-back: #17331f; --bad: #ff9d95; --bad-back: #43201e; --warn: #f0c566; --warn-back: #3b2f12;
    --accent: #8ab8f0; --bar-good: #3f8d5f; --bar-bad: #bd4d45; --bar-warn: #a97e1f; --bar-dim: #59626a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; }
.lead { font-size: 1.12rem; }
.soft, caption { color: var(--soft); }
a { color: var(--accent); }
code, pre, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .875em; }
code, .mono { overflow-wrap: anywhere; }
pre {
  background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.badge {
  display: inline-block; padding: .05rem .55rem; border-radius: 99px; font-size: .86rem; font-weight: 600; white-space: nowrap;
  background: var(--line); color: var(--ink);
}
.badge.good { background: var(--good-back); color: var(--good); }
.badge.bad { background: var(--bad-back); color: var(--bad); }
.badge.warn { background: var(--warn-back); color: var(--warn); }
.verdict { border-left: 6px solid var(--bar-dim); background: var(--card); padding: 1rem 1.25rem; border-radius: 0 8px 8px 0; }
.verdict.good { border-color: var(--bar-good); }
.verdict.bad { border-color: var(--bar-bad); }
.verdict.warn { border-color: var(--bar-warn); }
.notice { background: var(--warn-back); border-radius: 8px; padding: .8rem 1.1rem; margin: .8rem 0; }
.notice.bad { background: var(--bad-back); }
.notice h2, .notice h3 { font-size: 1rem; border: 0; margin: 0; padding: 0; }
.notice ul { margin: .3rem 0; padding-left: 1.2rem; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 100%), 1fr)); gap: .7rem 1.5rem; margin: 1rem 0;
}
.facts div:has(code) { grid-column: span 2; }
.facts dt { color: var(--soft); font-size: .82rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .6rem .8rem 0; font-size: .86rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem; border-top: 1px solid var(--line); }
th { font-size: .82rem; color: var(--soft); border-top: 0; white-space: nowrap; }
td:last-child { min-width: 11rem; }
.figure { text-align: right; white-space: nowrap; }
.still { white-space: nowrap; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .2rem 1.1rem; margin: .6rem 0; }
details.card { padding-left: 1.7rem; }
details.card summary { cursor: pointer; padding: .55rem 0; list-style-position: outside; }
summary .name { font-weight: 600; }
summary .badge { margin: 0 .35rem; }
summary p { margin: .15rem 0 0; overflow-wrap: anywhere; }
summary .name { overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
.scroll svg { min-width: 42rem; }
.trends { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .6rem; margin-top: .6rem; }
.trends figure { margin: 0; padding-top: .5rem; max-width: 34rem; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); }
svg .good { fill: var(--bar-good); } svg .bad { fill: var(--bar-bad); }
svg .warn { fill: var(--bar-warn); } svg .dim { fill: var(--bar-dim); }
svg .critical { stroke: var(--ink); stroke-width: 1.5; }
svg .course { stroke: var(--bar-dim); stroke-width: 1.5; }
svg.wide { min-width: 46rem; }
svg .target { stroke: var(--bar-bad); stroke-dasharray: 4 3; }
footer { margin-top: 3rem; color: var(--soft); font-size: .86rem; }
@media print { body { background: #fff; } .scroll, .card { break-inside: avoid; } main { max-width: none; padding: 0; } }
"""
