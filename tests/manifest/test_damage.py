"""Damaged copies recorded in the manifest: bounded, repeatable, and cleared only by a later read."""

import msgspec
import pytest

from drtool.manifest.damage import CATALOGUE_LIMIT, DAMAGE_LIMIT, recorded, row_of, split, still_there
from drtool.manifest.records import Damage, Target
from drtool.manifest.rejection import Refused
from drtool.model import TargetName

A, B = TargetName("a/main"), TargetName("b/main")


def pack(number: int) -> bytes:
    return b"p" + number.to_bytes(32, "big")


def found(rows, at, *numbers, more=False, sequence=10):
    return recorded(rows, [row_of(at, map(pack, numbers), more=more)], (), -1, sequence)


def sound(rows, at, *numbers, judged, more=False):
    return recorded(rows, (), [row_of(at, map(pack, numbers), more=more)], judged, 99)


def listed(rows):
    return sorted((row.target, int.from_bytes(each[1:], "big")) for row in rows for each in split(row))


def test_a_finding_is_listed_once_however_often_it_is_recorded():
    rows = found(found((), A, 1, 2), A, 2, 1, sequence=11)
    assert listed(rows) == [(A, 1), (A, 2)]
    assert [row.sequence for row in rows] == [11]


def test_findings_of_one_target_say_nothing_of_another():
    assert listed(sound(found(found((), A, 1), B, 1), A, 1, judged=10)) == [(B, 1)]


def test_a_read_that_began_before_the_finding_does_not_clear_it():
    rows = found((), A, 1, sequence=10)
    assert listed(sound(rows, A, 1, judged=9)) == [(A, 1)]
    assert sound(rows, A, 1, judged=10) == ()


def test_found_again_it_stands_against_reads_from_before():
    rows = found(found((), A, 1, 2, sequence=10), A, 1, sequence=12)
    assert listed(sound(rows, A, 1, 2, judged=11)) == [(A, 1)]


def test_the_list_is_bounded_and_says_when_it_is_not_all():
    rows = found(found((), A, *range(DAMAGE_LIMIT)), B, 1, 2)
    assert len(listed(rows)) == DAMAGE_LIMIT
    assert [(row.target, row.more) for row in rows] == [(A, False), (B, True)]
    assert row_of(A, map(pack, range(DAMAGE_LIMIT + 1))).more


def test_unlisted_damage_is_cleared_only_by_a_read_of_the_whole_target():
    rows = found((), A, 1, more=True)
    assert [row.more for row in sound(rows, A, 1, judged=10)] == [True]
    assert sound(rows, A, judged=10, more=True) == ()
    assert sound(rows, A, judged=9, more=True) == rows


def test_damage_found_by_a_read_of_the_whole_target_remains():
    rows = recorded(found((), A, 1, 2, more=True), [row_of(A, [pack(2)])], [row_of(A, (), more=True)], 10, 11)
    assert listed(rows) == [(A, 2)]
    assert not rows[0].more


def test_a_target_at_a_new_place_begins_without_findings():
    before = [Target(A, 1, "active", "file:///a"), Target(B, 1, "active", "file:///b")]
    after = [Target(A, 1, "active", "file:///a2"), Target(B, 2, "draining", "file:///b")]
    assert listed(still_there(found(found((), A, 1), B, 1), before, after)) == [(B, 1)]
    assert still_there(found((), A, 1), before, []) == ()


@pytest.mark.parametrize("objects", [b"p", b"p" * 34, b"x" + bytes(32)])
def test_an_invalid_list_of_objects_is_refused(objects):
    with pytest.raises(Refused):
        recorded((), [Damage(A, objects)], (), -1, 10)


PAGE, RECORD = "manifest/obj/" + "ab" * 32, "manifest/acc/g0001/c000001/v-000000000042"


def of_catalogue(rows, *names, at=A, sequence=10):
    return recorded(rows, [row_of(at, (), names)], (), -1, sequence)


def test_objects_of_the_catalogue_are_found_and_cleared_like_packs():
    rows = of_catalogue(found((), A, 1), "drtool.json", PAGE, RECORD, sequence=11)
    assert rows[-1].catalogue == ("drtool.json", RECORD, PAGE)
    assert recorded(rows, (), [row_of(A, (), [PAGE])], 10, 12) == rows
    (one, other) = recorded(rows, (), [row_of(A, (), [PAGE])], 11, 12)
    assert (listed([one]), other.catalogue) == ([(A, 1)], ("drtool.json", RECORD))


def test_a_read_of_all_packs_says_nothing_of_the_catalogue():
    (row,) = sound(of_catalogue(found((), A, 1, more=True), PAGE), A, judged=10, more=True)
    assert (row.objects, row.more, row.catalogue) == (b"", False, (PAGE,))


def test_the_list_of_the_catalogue_is_bounded_and_casts_no_doubt_on_packs():
    rows = of_catalogue((), *(f"manifest/obj/{number:064x}" for number in range(CATALOGUE_LIMIT + 5)))
    rows = of_catalogue(rows, PAGE, at=B)
    assert [(row.target, len(row.catalogue), row.more) for row in rows] == [(A, CATALOGUE_LIMIT, False)]


@pytest.mark.parametrize("name", ["packs/ab/abcd", "", "manifest/" + "x" * 300])
def test_a_name_outside_the_catalogue_is_refused(name):
    with pytest.raises(Refused):
        recorded((), [Damage(A, catalogue=(name,))], (), -1, 10)


def test_an_earlier_version_reads_a_row_with_fields_that_it_does_not_know():
    """Fields are only added at the end: rows of such a version are arrays of four."""

    class Earlier(msgspec.Struct, array_like=True):
        target: str
        objects: bytes
        more: bool
        sequence: int

    row = row_of(A, [pack(1)], [PAGE])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=Earlier).objects == pack(1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Earlier(A, pack(1), False, 3)), type=Damage).catalogue == ()
