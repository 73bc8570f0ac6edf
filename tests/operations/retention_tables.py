"""Snapshots and policies as tests write them: one line a snapshot, the rules as words."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from drtool.config.units import keep_count, span
from drtool.operations.retention import Calendar, Rules, judge

NOW = "2030-01-01 00:00"
_NS = 10**9


class Snap(msgspec.Struct, frozen=True):
    """The attributes of a snapshot that retention reads."""

    id: bytes
    time_ns: int
    sequence: int
    host: str = "here"
    source: str = "home"
    paths: tuple[bytes, ...] = (b"/home",)
    tags: tuple[str, ...] = ()


def time_ns(text: str, zone: str = "UTC") -> int:
    """Return a time such as `2026-03-29 02:30` in a zone. A suffix `+01:00` selects one of two."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * _NS


def rules_of(words: str) -> Rules:
    """`last 3, daily 7, within 7d, weekly within 1m, tag keep`: as `str(rules)` writes them."""
    values: dict = {"tags": ()}
    for part in filter(None, words.split(", ")):
        name, _, value = part.rpartition(" ")
        if name == "tag":
            values["tags"] += (value,)
        elif "within" in name:
            values["_".join(reversed(name.split()))] = span(value)
        else:
            values[name] = keep_count(value)
    return Rules(**values)


def normal_form(table: str) -> str:
    """A table with single blanks.

    It begins with the rules, optionally `in ZONE` and `now TIME`. Then comes one snapshot a line, in the order in which the
    manifest recorded them: its time, `#tag`s, `|` and why it is kept. `word*` is a reason that holds only for the
    oldest, `-` means removed, and `future` means dated in the future.
    """
    return "\n".join(" ".join(line.split()) for line in table.strip().splitlines())


def judged_table(table: str) -> str:
    """The same table, with the reasons that `judge` gives."""
    head, *lines = normal_form(table).splitlines()
    words, _, now = head.partition(" now ")
    words, _, zone = words.partition(" in ")
    zone = zone or "UTC"
    whens = [line.partition(" |")[0] for line in lines]
    snapshots = [_snapshot(number, when, zone) for number, when in enumerate(whens)]
    rules = rules_of(words)
    judged = judge(snapshots[::-1], rules, Calendar(ZoneInfo(zone)), time_ns(now or NOW))
    kept = {row.snapshot.id: row for row in judged.keep}
    removed = {row.id for row in judged.remove}
    assert not removed & set(kept)
    assert removed | set(kept) == {row.id for row in snapshots}
    assert [row.snapshot.time_ns for row in judged.keep] == sorted(row.snapshot.time_ns for row in judged.keep)
    return "\n".join(
        [
            head.replace(words, str(rules), 1),
            *(f"{when} | {_reasons(kept.get(row.id))}" for when, row in zip(whens, snapshots, strict=True)),
        ]
    )


def _snapshot(number: int, when: str, zone: str) -> Snap:
    moment, *tags = when.split(" #")
    return Snap(number.to_bytes(16), time_ns(moment, zone), number, tags=tuple(tags))


def _reasons(kept) -> str:
    if kept is None:
        return "-"
    if kept.future:
        assert kept.reasons == ()
        return "future"
    return " ".join(f"{word}*" if word in kept.as_oldest else word for word in kept.reasons)
