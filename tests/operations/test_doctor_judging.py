"""The assessment of facts by doctor. Pure, so rare facts (a locked bucket, a voter that lags) are tested, too."""

import pytest
from msgspec.structs import replace

from drtool.operations.doctor.facts import CatalogueFacts, DirectoryFacts, Facts, HostFacts, TargetFacts, VoterFacts
from drtool.operations.doctor.judging import diagnose, exit_code
from drtool.operations.doctor.targets import commonest

HOST = HostFacts(
    directories=(),
    files=(),
    sources=(),
    missing_programs=(),
    missing_libraries=(),
    keyless=(),
    files_max=4096,
    core_bytes_max=0,
    versions=(),
)
WELL = TargetFacts(
    name="a/main",
    url="s3://bucket",
    kind="s3",
    place="endpoint x",
    repository="00",
    reached=True,
    latency_s=0.01,
    skew_s=0.0,
    write_tried=True,
    can_vote=True,
)


def judged(*targets, host=HOST, catalogue=None, config=()):
    facts = Facts(
        config_path="drtool.yaml",
        config_problems=config,
        password=("the terminal", None, None),
        host=host,
        targets=targets,
        overlaps=(),
        catalogue=catalogue,
        read_only=False,
    )
    return diagnose(facts)


def kinds(diagnosis):
    return {(row.what, row.level) for row in diagnosis.findings if row.level != "ok"}


def voter(**more):
    known = {"site": "a", "target": "a/main", "vouched": False, "reachable": True, "lag": 0, "problem": None}
    return VoterFacts(**(known | more))


@pytest.mark.parametrize(("copy_left", "level"), [(False, "error"), (True, "warning")])
def test_one_voter_for_several_sites_is_an_error_unless_another_site_has_the_catalogue(copy_left, level):
    loss = ("site a is the only voter", "add one", copy_left)
    one = CatalogueFacts(needed=1, reachable=1, voters=(voter(),), losses=(loss,))
    assert ("only-voter", level) in kinds(judged(WELL, catalogue=one))
    assert "only-voter" not in {what for what, _ in kinds(judged(WELL, catalogue=replace(one, losses=())))}


def test_damaged_copies_of_the_catalogue_are_warned_of_and_old_ones_noted():
    seen = CatalogueFacts(needed=1, reachable=1, voters=(voter(),), copies_damaged=("b",), copies_behind=("c",))
    assert {("catalogue-copy", "warning"), ("catalogue-copy", "note")} <= kinds(judged(WELL, catalogue=seen))


def test_a_mover_at_work_is_noted_and_one_without_a_sign_of_life_is_a_warning():
    seen = CatalogueFacts(
        needed=1, reachable=1, voters=(voter(),), mover=("session 3f2a…", "drtool session expire 3f2a", False)
    )
    assert ("mover", "note") in kinds(judged(WELL, catalogue=seen))
    stuck = judged(WELL, catalogue=replace(seen, mover=(*seen.mover[:2], True)))
    assert ("mover", "warning") in kinds(stuck)
    assert [row.hint for row in stuck.findings if row.what == "mover"] == ["drtool session expire 3f2a"]


def test_nothing_to_say():
    diagnosis = judged(WELL, catalogue=CatalogueFacts(needed=1, reachable=1, voters=(voter(),)))
    assert (diagnosis.healthy, exit_code(diagnosis), kinds(diagnosis)) == (True, 0, set())
    assert diagnosis.targets[0].votes is True


def test_the_clock_has_two_bounds_and_only_s3_the_second():
    for skew_s, kind, expected in (
        (59, "s3", set()),
        (-61, "s3", {("clock", "warning")}),
        (901, "s3", {("clock", "error")}),
        (901, "sftp", {("clock", "warning")}),
    ):
        assert kinds(judged(replace(WELL, skew_s=skew_s, kind=kind))) == expected
    behind, ahead = judged(replace(WELL, skew_s=90)), judged(replace(WELL, skew_s=-90))
    assert "90 s behind" in behind.findings[0].message
    assert "90 s ahead of" in ahead.findings[0].message


def test_how_a_bucket_keeps_deleted_objects():
    assert kinds(judged(replace(WELL, keeps_versions=True))) == {("versions", "note")}
    assert kinds(judged(replace(WELL, keeps_versions=True, keeps_locked=True))) == {("locked", "note")}
    refused = ("target_read_only", "may not", None)
    assert kinds(judged(replace(WELL, delete_refusal=refused))) == {("delete", "warning")}
    assert kinds(judged(replace(WELL, write_refusal=refused))) == {("write", "error")}


def test_a_hung_target_is_unreachable_before_the_first_answer_and_slow_after_it():
    assert kinds(judged(replace(WELL, reached=False, step="opening it"))) == {("unreachable", "error")}
    assert kinds(judged(replace(WELL, step="trying conditional writes"))) == {("slow", "warning")}


def test_voters():
    target = replace(WELL, can_vote=False, vote_reason="it races")
    seen = CatalogueFacts(needed=1, reachable=1, voters=(voter(),))
    assert kinds(judged(target, catalogue=seen)) == {("vote", "error")}
    assert kinds(judged(target, catalogue=replace(seen, voters=(voter(vouched=True),)))) == set()
    assert kinds(judged(WELL, catalogue=replace(seen, voters=(voter(lag=3),)))) == {("voter-lags", "note")}
    assert kinds(judged(WELL, catalogue=replace(seen, voters=(voter(problem="rolled back"),)))) == {("voter", "error")}


def test_targets_that_the_catalogue_and_the_configuration_disagree_about():
    seen = CatalogueFacts(needed=1, reachable=1, repository="00", unknown=("a/main",), unnamed=("b/main",))
    assert kinds(judged(WELL, catalogue=seen)) == {("unknown-target", "warning"), ("unnamed-target", "note")}
    seen = replace(seen, unknown=(), unnamed=(), refused=(("a/main", "it was replaced"),))
    assert kinds(judged(WELL, catalogue=seen)) == {("refused-target", "error")}
    assert kinds(judged(replace(WELL, repository="01"), catalogue=seen)) == set()


def test_half_the_targets_of_one_repository_and_half_of_another_are_all_reported():
    other = replace(WELL, name="b/main", repository="01", place="endpoint y")
    diagnosis = judged(WELL, other)
    assert [row.where for row in diagnosis.findings if row.what == "another-repository"] == ["a/main", "b/main"]
    diagnosis = judged(WELL, other, replace(other, name="c/main", place="endpoint z"))
    assert [row.where for row in diagnosis.findings if row.what == "another-repository"] == ["a/main"]
    assert commonest(["00", "01", None]) is None
    assert commonest(["00", "01", "00"]) == "00"
    assert commonest([None]) is None


def test_two_targets_of_one_site_may_share_a_device():
    assert kinds(judged(WELL, replace(WELL, name="a/other"))) == set()
    assert kinds(judged(WELL, replace(WELL, name="b/main"))) == {("one-failure-domain", "warning")}


def test_only_the_configuration_is_two_and_anything_else_one():
    fault = (("drtool.yaml:1:1", "unknown key", None),)
    assert exit_code(judged(WELL, config=fault)) == 2
    assert exit_code(judged(replace(WELL, refusal=("target_offline", "away", None)), config=fault)) == 1


def test_this_host():
    directory = DirectoryFacts(role="cache directory", path="/x", mode=0o755, writable=True, free_bytes=1 << 20)
    host = replace(HOST, directories=(directory,), files_max=256, core_bytes_max=-1, keyless=("c/ssh",))
    assert kinds(judged(WELL, host=host)) == {
        ("cache-directory-mode", "warning"),
        ("cache-directory-room", "warning"),
        ("open-files", "warning"),
        ("core-dumps", "note"),
        ("ssh-key", "warning"),
    }
    host = replace(HOST, missing_libraries=(("asyncssh", "sftp:// targets"),))
    assert kinds(judged(WELL, host=host)) == {("tool-missing", "error")}


def test_every_warning_and_every_error_has_a_hint():
    diagnosis = judged(
        replace(WELL, skew_s=1000.0, unmarked=True, repository=None, delete_refusal=("x", "y", None), free_bytes=5),
        replace(WELL, name="b/main", refusal=("x", "y", None)),
        catalogue=CatalogueFacts(needed=2, reachable=1, voters=(voter(problem="z"),), problems=("p",)),
    )
    assert len(diagnosis.findings) > 8
    assert [row for row in diagnosis.findings if row.level in ("warning", "error") and not row.hint] == []
    levels = [row.level for row in diagnosis.findings]
    assert levels == sorted(levels, key=("error", "warning", "note", "ok").index)
