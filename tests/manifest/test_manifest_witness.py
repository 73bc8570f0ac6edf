"""What a host remembers only moves forward, also when runs of it overlap."""

from drtool.manifest.records import Config, Voter
from drtool.manifest.witness import SiteWitness, Witness
from drtool.paxos import Ballot


def config(number, generation=1, recovery=b""):
    return Config(generation, number, (Voter("a", "a/main", b"i" * 16),), 1, recovery)


def witness(number, sequence, version, generation=1, recovery=b""):
    site = SiteWitness(b"i" * 16, version, Ballot(version, b"p" * 16), b"h" * 32)
    return Witness(generation, number, sequence, b"d" * 32, {"a": site}, config(number, generation, recovery))


def test_the_newer_head_and_the_newer_records_are_kept():
    merged = witness(1, 5, 9).merged(witness(1, 7, 12))
    assert (merged.sequence, merged.sites["a"].version) == (7, 12)
    assert witness(1, 7, 12).merged(Witness(1, 1, 5, b"d" * 32)).sequence == 7


def test_a_new_configuration_begins_with_its_own_versions():
    merged = witness(1, 5, 900).merged(witness(2, 6, 3))
    assert (merged.config_number, merged.sites["a"].version) == (2, 3)


def test_a_run_that_began_before_the_voters_changed_leaves_no_versions_of_old_registers():
    merged = witness(2, 6, 3).merged(witness(1, 5, 900))
    assert merged == witness(2, 6, 3)
    assert witness(1, 6, 3, generation=2, recovery=b"x").merged(witness(4, 9, 900)).generation == 2


def test_another_recovery_to_the_same_generation_is_not_mixed_in():
    one = witness(1, 6, 3, generation=2, recovery=b"x" * 16)
    assert one.merged(witness(1, 8, 5, generation=2, recovery=b"y" * 16)) == one
