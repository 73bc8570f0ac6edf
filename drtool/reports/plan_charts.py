"""Two SVG drawings for the report of a run: the working times of its steps, and the trend of an objective.

Invariants
    Each drawing has a title that describes it in words. The tables beside it hold the same figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from drtool.reports.page import Markup, Tone, html, tag
from drtool.reports.plan_story import Work

TONES: Mapping[str, Tone] = {
    "passed": "good",
    "tolerated": "good",
    "failed": "bad",
    "aborted": "bad",
    "leftovers": "bad",
    "missed": "warn",
    "unproven": "warn",
    "": "warn",
}
_WIDTH, _NAMES, _ROW, _TOP = 960, 220, 24, 26
_TREND_WIDTH, _TREND_HEIGHT = 420, 96


def gantt(works: Sequence[Work], path: Sequence[str], wall_s: float) -> Markup:
    """Return a chart with one bar per step. Steps on the critical path have an outline and a star."""
    total_s = max(wall_s, 0.001)
    scale = (_WIDTH - _NAMES - 110) / total_s
    height = _TOP + _ROW * len(works) + 8
    rows = [_bar(work, index, scale, work.key in path) for index, work in enumerate(works)]
    title = f"Working times of {len(works)} steps, over {seconds_text(wall_s)}. A star marks the critical path"
    return _svg(_WIDTH, height, title, *_axis(total_s, scale, height), *rows, cls="wide")


def trend(values: Sequence[float | None], target: float | None, title: str) -> Markup:
    """Return a chart with one point per run, oldest first. A run without a value is a gap. The dashed line is the objective."""
    known = [value for value in values if value is not None]
    top = max([*known, target or 0.0, 0.001]) * 1.15
    step = (_TREND_WIDTH - 40) / max(1, len(values) - 1) if len(values) > 1 else 0.0

    def y(value: float) -> float:
        return _TREND_HEIGHT - 14 - value / top * (_TREND_HEIGHT - 28)

    dots = [
        tag(
            "circle",
            tag("title", seconds_text(value)),
            cx=f"{20 + index * step:.1f}",
            cy=f"{y(value):.1f}",
            r="4.5" if index == len(values) - 1 else "3.5",
            cls=_dot(value, target),
        )
        for index, value in enumerate(values)
        if value is not None
    ]
    between = [
        tag(
            "line",
            x1=f"{20 + (index - 1) * step:.1f}",
            x2=f"{20 + index * step:.1f}",
            y1=f"{y(before):.1f}",
            y2=f"{y(value):.1f}",
            cls="course",
        )
        for index, (before, value) in enumerate(pairwise(values), 1)
        if before is not None and value is not None
    ]
    line = [] if target is None else _asked(target, y(target))
    ground = tag("line", x1="12", x2=str(_TREND_WIDTH - 12), y1=f"{y(0):.1f}", y2=f"{y(0):.1f}", cls="grid")
    return _svg(_TREND_WIDTH, _TREND_HEIGHT, title, ground, *line, *between, *dots)


def _asked(target: float, y: float) -> list[Markup]:
    """Return the dashed line of an objective, with its label where there is room."""
    words = tag("text", f"objective {seconds_text(target)}", x="12", y=f"{y - 5 if y > 24 else y + 14:.1f}", cls="soft")
    return [
        tag("line", x1="12", x2=str(_TREND_WIDTH - 12), y1=f"{y:.1f}", y2=f"{y:.1f}", cls="target"),
        words,
    ]


def _dot(value: float, target: float | None) -> str:
    return "dim" if target is None else "bad" if value > target else "good"


def _bar(work: Work, index: int, scale: float, critical: bool) -> Markup:
    y = _TOP + index * _ROW
    x = _NAMES + work.began_s * scale
    width = max(2.0, (work.ended_s - work.began_s) * scale)
    tone = TONES.get(work.status, "dim")
    name = f"{'★ ' if critical else ''}{work.key}"
    shown = name if len(name) <= 30 else f"{name[:29]}…"
    return Markup(
        tag("text", shown, x="0", y=str(y + 16))
        + tag(
            "rect",
            tag("title", f"{work.key}: {work.status or 'no end'}, {seconds_text(work.ended_s - work.began_s)}"),
            x=f"{x:.1f}",
            y=str(y + 4),
            width=f"{width:.1f}",
            height=str(_ROW - 8),
            rx="3",
            cls=f"{tone}{' critical' if critical else ''}",
        )
        + tag("text", _told(work), x=f"{x + width + 5:.1f}", y=str(y + 16), cls="soft")
    )


def _told(work: Work) -> str:
    """Return the duration, and in words what must not be given by colour alone."""
    took = seconds_text(work.ended_s - work.began_s)
    return took if work.status == "passed" else f"{took} {work.status or 'no end'}"


def _axis(total_s: float, scale: float, height: int) -> Iterator[Markup]:
    step = _step(total_s)
    at = 0.0
    while at <= total_s:
        x = f"{_NAMES + at * scale:.1f}"
        yield tag("line", x1=x, x2=x, y1=str(_TOP - 4), y2=str(height - 6), cls="grid")
        yield tag("text", seconds_text(at), x=x, y="14", cls="soft", text_anchor="middle")
        at += step


def _step(total_s: float) -> float:
    """Return the distance of the axis lines: about six of them, at round times."""
    rough = total_s / 6
    for nice in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200):
        if nice >= rough:
            return nice
    return 86_400.0 * max(1, round(rough / 86_400))


def seconds_text(value: float) -> str:
    """Return a duration as people write it."""
    if 0 < value < 0.05:
        return "< 0.1 s"
    if value < 10:
        return f"{value:.1f} s".replace(".0 s", " s")
    if value < 120:
        return f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 72:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def _svg(width: int, height: int, title: str, *inner: Markup, cls: str = "") -> Markup:
    body = "".join((f"<title>{html(title)}</title>", *inner))
    named = f' class="{cls}"' if cls else ""
    return Markup(f'<svg{named} viewBox="0 0 {width} {height}" role="img" aria-label="{html(title)}">{body}</svg>')
