"""HTTP probes: a page, and a sample from a page in the Prometheus text format.

Invariants
    A text that is missing in the part that was read of a longer page is not proven to be missing.
    A metric must match exactly one sample. None, or several, is not as expected.
"""

import re
import time
from collections.abc import Iterator

from drtool.errors import DrtoolError
from drtool.plans.actions.probing.replies import Reply, bad, good, unlike_number
from drtool.plans.actions.programs_run import found
from drtool.plans.language.probes import HttpProbe, MetricProbe
from drtool.plans.web import BODY_BYTES, WebReply, request

_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{(.*)\})?[ \t]+([^\s{}]+)(?:[ \t]+-?[0-9.]+)?(?:[ \t]+#.*)?[ \t]*", re.ASCII
)
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)', re.ASCII)
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def ask_http(probe: HttpProbe, ends_at: float) -> Reply:
    began_at = time.monotonic()
    try:
        reply = request(
            probe.method, probe.url, ends_at=ends_at, headers=probe.headers, wanted_status=probe.expect.status
        )
    except DrtoolError as error:
        return bad(error.message)
    seconds = time.monotonic() - began_at
    text = reply.body.decode("utf-8", "replace")
    problem = _unlike(probe, reply, text, seconds)
    if problem:
        return bad(f"{reply.url}: {problem}", text[: 64 << 10], reply.status)
    return good(f"{reply.url} answered with {reply.status}", text[: 64 << 10], reply.status)


def _unlike(probe: HttpProbe, reply: WebReply, text: str, seconds: float) -> str:
    expect, cut = probe.expect, f" in its first {BODY_BYTES >> 20} MiB" if reply.truncated else ""
    if reply.status != expect.status:
        return f"answered with {reply.status} instead of {expect.status}"
    if expect.contains is not None and expect.contains not in text:
        return f"{expect.contains!r} is not{cut or ' in the answer'}"
    if expect.matches is not None and not found(expect.matches, text):
        return f"nothing{cut or ' in the answer'} matches {expect.matches!r}"
    if expect.answers_within_s is not None and seconds > expect.answers_within_s:
        return f"answered after {seconds:.2f} s; expected within {expect.answers_within_s:g} s"
    return ""


def ask_metric(probe: MetricProbe, ends_at: float) -> Reply:
    try:
        reply = request("GET", probe.url, ends_at=ends_at, headers=probe.headers)
    except DrtoolError as error:
        return bad(error.message)
    if reply.status != 200:
        return bad(f"{reply.url}: answered with {reply.status} instead of 200", status=reply.status)
    if reply.truncated:
        return bad(f"{reply.url}: the page is longer than {BODY_BYTES >> 20} MiB", status=reply.status)
    rows = list(matching(reply.body.decode("utf-8", "replace"), probe.metric, probe.labels))
    if len(rows) != 1:
        many = f"{len(rows)} samples of {probe.metric} match; name more labels" if rows else f"no {probe.metric}"
        return bad(f"{reply.url}: {many}", status=reply.status)
    return _judged(probe, rows[0], reply.status)


def _judged(probe: MetricProbe, value: float, status: int) -> Reply:
    expect = probe.expect
    problem = unlike_number(value, expect.min, expect.max)
    if not problem and expect.equals is not None and value != expect.equals:
        problem = f"expected {expect.equals:g}"
    plain = value if abs(value) < float("inf") else None  # JSON has neither infinity nor NaN
    told = f"{probe.metric} is {value:g}"
    return bad(f"{told}; {problem}", plain, status) if problem else good(told, plain, status)


def matching(page: str, metric: str, labels: dict[str, str]) -> Iterator[float]:
    """Yield the values of all samples with this name and these labels. Invalid lines are skipped."""
    for line in page.split("\n"):
        sample = _SAMPLE.fullmatch(line)
        if sample is None or sample[1] != metric:
            continue
        own = {name: _plain(text) for name, text in _LABEL.findall(sample[2] or "")}
        if labels.items() <= own.items() and (value := _number(sample[3])) is not None:
            yield value


def _plain(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPED.get(match[0], match[0]), text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
