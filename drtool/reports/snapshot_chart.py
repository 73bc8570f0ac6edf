"""A chart of snapshots over time: one row per source, with a mark at each snapshot.

Invariants
    At most `ROWS` rows of `COLUMNS` marks, for any number of snapshots. A note says what is not drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from drtool.reports.page import Markup, tag

ROWS = 16
COLUMNS = 180
_WIDTH, _NAMES, _ROW, _TOP = 960, 220, 26, 24
_TICKS = 5


class Dotted(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def time_ns(self) -> int: ...


def timeline(dots: Sequence[Dotted], now_ns: int) -> Markup:
    """Return the chart from the oldest snapshot to now. Snapshots from the future are at the right edge."""
    if not dots:
        return Markup("")
    first_ns = min(*(dot.time_ns for dot in dots), now_ns - 86_400 * 10**9)  # at least one day
    span_ns = max(1, now_ns - first_ns)
    rows: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for dot in dots:
        column = (min(dot.time_ns, now_ns) - first_ns) * (COLUMNS - 1) // span_ns
        rows[dot.host, dot.source][column] += 1
    shown = sorted(rows.items(), key=lambda row: (-sum(row[1].values()), row[0]))[:ROWS]
    height = _TOP + _ROW * len(shown) + 6
    title = f"Times of the snapshots of {len(rows)} sources, over {max(1, span_ns // (86_400 * 10**9))} days"
    parts = [
        *_axis(first_ns, span_ns, height),
        *(_row(index, key, marks) for index, (key, marks) in enumerate(sorted(shown))),
    ]
    drawing = tag(
        "svg", tag("title", title), *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=title, cls="wide"
    )
    left = len(rows) - len(shown)
    more = tag("p", f"{left:,} sources with fewer snapshots are not drawn.", cls="soft") if left else Markup("")
    return Markup(tag("div", drawing, cls="scroll", tabindex="0", role="region", aria_label=title) + more)


def _axis(first_ns: int, span_ns: int, height: int) -> list[Markup]:
    parts = []
    for tick in range(_TICKS):
        x = _NAMES + (_WIDTH - _NAMES - 20) * tick / (_TICKS - 1)
        anchor = "end" if tick == _TICKS - 1 else "start"
        text = _day(first_ns + span_ns * tick // (_TICKS - 1))
        parts.append(tag("line", x1=f"{x:.0f}", x2=f"{x:.0f}", y1=str(_TOP - 6), y2=str(height), cls="grid"))
        parts.append(tag("text", text, x=f"{x:.0f}", y="13", text_anchor=anchor, cls="soft"))
    return parts


def _row(index: int, key: tuple[str, str], marks: Counter[int]) -> Markup:
    host, source = key
    name = f"{source or '(paths)'} on {host}"
    shown = name if len(name) <= 30 else f"{name[:29]}…"
    y = _TOP + _ROW * index
    width = (_WIDTH - _NAMES - 20) / COLUMNS
    bars = [
        tag(
            "rect",
            x=f"{_NAMES + column * width:.1f}",
            y=str(y + 4),
            width=f"{max(2.5, width - 0.6):.1f}",
            height="16",
            rx="1",
            cls="good",
        )
        for column in sorted(marks)
    ]
    told = tag("title", f"{name}: {sum(marks.values()):,} snapshots")
    return tag("g", told, tag("text", shown, x="8", y=str(y + 17)), *bars)


def _day(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "long ago"
