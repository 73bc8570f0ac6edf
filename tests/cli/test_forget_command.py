"""`forget` on the command line: documents, tables, exit codes, and invalid policies."""

import json
import re
import shutil

import pytest
from command_shell import shell_in

from drtool.cli.main import run

MARCH = [f"2026-03-0{day}T12:00:00Z" for day in range(1, 7)]
NEVER = "2199-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def signals():
    """Restore the signal handlers, because `run` installs its own."""
    import signal

    from drtool.errors import INTERRUPTS

    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A repository with the time zone of Berlin, six snapshots in March and one from the future. Tests leave it unchanged."""
    made = shell_in(tmp_path_factory.mktemp("kept"))
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_text("hello\n")
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets, TZ="Europe/Berlin").code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    for when in (*MARCH, NEVER):
        tags = ["--tag", "gold"] if when == MARCH[0] else []
        assert made("backup", "--time", when, "--host", "web", *tags).code == 0
    return made


@pytest.fixture
def own(kept, tmp_path):
    """The same repository for tests that change it. It is reset afterwards, since a copy elsewhere would be a duplicated site."""
    shutil.copytree(kept.directory, tmp_path / "saved", symlinks=True)
    yield kept
    shutil.rmtree(kept.directory)
    shutil.copytree(tmp_path / "saved", kept.directory, symlinks=True)


def moments(rows):
    return [row["time"][:10] for row in rows]


def test_the_document(kept):
    done = kept("forget", "--keep-last", "2", "--keep-weekly", "1", "--keep-tag", "gold", "--dry-run", "--json")
    assert done.code == 0
    document = done.document
    assert moments(document["remove"]) == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert [(row["time"][:10], row["reasons"], row["future"]) for row in document["keep"]] == [
        ("2026-03-01", ["tag"], False),
        ("2026-03-05", ["last"], False),
        ("2026-03-06", ["last", "weekly"], False),
        ("2199-01-01", [], True),
    ]
    assert (document["policy"], document["timezone"]) == ("last 2, weekly 1, tag gold", "Europe/Berlin")
    assert (document["dry_run"], document["objections"]) == (True, [])
    assert all(re.fullmatch("[0-9a-f]{32}", row["id"]) for row in (*document["keep"], *document["remove"]))
    assert all(row["host"] == "web" and row["source"] == "home" for row in document["keep"])
    assert "dated in the future" in done.err


TABLE = """\
keep last 1, monthly 2  (Europe/Berlin)

host web, source home
ACTION  ID        TIME                       REASONS              TAGS
keep    ........  2026-03-01 12:00:00+00:00  monthly (oldest)     gold
remove  ........  2026-03-02 12:00:00+00:00
remove  ........  2026-03-03 12:00:00+00:00
remove  ........  2026-03-04 12:00:00+00:00
remove  ........  2026-03-05 12:00:00+00:00
keep    ........  2026-03-06 12:00:00+00:00  last monthly
keep    ........  2199-01-01 00:00:00+00:00  dated in the future
would forget 4 snapshots, 3 stay; prune on other hosts keeps the data until ....-..-.. ..:..:..
"""


def test_the_table(kept):
    done = kept("forget", "--keep-last", "1", "--keep-monthly", "2", "--dry-run")
    ids_hidden = re.sub(r"^(keep|remove)(\s+)[0-9a-f]{8}  ", r"\1\2........  ", done.out, flags=re.MULTILINE)
    assert re.sub(r"until 20[-\d]+ [:\d]+\+00:00", "until ....-..-.. ..:..:..", ids_hidden) == TABLE
    assert "\x1b" not in done.out


def test_the_real_run_does_what_the_dry_run_showed_in_one_line(own):
    words = ("forget", "--keep-within", "2d1h", "--keep-yearly", "unlimited")
    shown = own(*words, "--dry-run", "--json").document
    assert len(own("snapshots", "--json").document["snapshots"]) == 7
    done = own(*words)
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert done.out.startswith("forgot 2 snapshots, 5 stay; prune on other hosts keeps the data until 2")
    ids = {row["id"] for row in own("snapshots", "--json").document["snapshots"]}
    assert ids == {row["id"] for row in shown["keep"]}
    again = own(*words, "--json").document
    assert (again["remove"], len(again["keep"])) == ([], 5)
    assert own("forget", "--keep-last", "unlimited").out == "nothing to forget: 5 stay\n"


def test_forget_and_prune_in_one_run(own):
    (own.directory / "tree/file").write_text("goodbye\n")
    assert own("backup", "--time", "2026-03-07T12:00:00Z", "--host", "web").code == 0
    words = ("forget", "--prune", "--keep-last", "1", "--host", "web")
    shown = own(*words, "--dry-run", "--json")
    assert (shown.code, shown.document["prune"]["dry_run"], len(shown.document["remove"])) == (0, True, 6)
    done = own(*words, "--json")
    assert (done.code, done.document["remove"]) == (0, shown.document["remove"])
    for field in ("removed", "repacked", "kept"):
        assert done.document["prune"][field] == shown.document["prune"][field]
    assert own("verify", "--level", "full").code == 0
    again = own(*words)
    assert (again.code, len(again.out.splitlines())) == (0, 1)
    assert again.out.startswith("nothing to forget: 2 stay; removed nothing")


def test_by_name(own):
    rows = own("snapshots", "--json").document["snapshots"]
    done = own("forget", "--snapshot", rows[1]["id"][:10], "--snapshot", rows[2]["id"], "--json")
    assert done.code == 0
    assert [row["id"] for row in done.document["remove"]] == [rows[1]["id"], rows[2]["id"]]
    gone = {rows[1]["id"], rows[2]["id"]}
    assert {row["id"] for row in own("snapshots", "--json").document["snapshots"]} == {r["id"] for r in rows} - gone
    assert (own("forget", "--snapshot", rows[1]["id"], "--json").code, own("ls", rows[1]["id"]).code) == (1, 1)


def test_a_group_that_would_be_empty(own):
    shown = own("forget", "--keep-tag", "silver", "--dry-run", "--json")
    assert (shown.code, len(shown.document["remove"])) == (11, 6)
    refused = own("forget", "--keep-tag", "silver", "--json")
    assert refused.code == 11
    assert refused.error["kind"] == shown.error["kind"] == "refused"
    assert "no snapshot would be left of host web, source home" in refused.error["message"]
    assert shown.error["hint"] == refused.error["hint"]
    person = own("forget", "--keep-tag", "silver", "--dry-run")
    assert (person.code, "would be refused: no snapshot would be left" in person.out) == (11, True)
    assert len(own("snapshots", "--json").document["snapshots"]) == 7
    assert own("forget", "--keep-tag", "silver", "--allow-empty").code == 0
    assert len(own("snapshots", "--json").document["snapshots"]) == 1


def test_the_configured_policy(own):
    assert own("forget", "--json").code == 2
    with (own.directory / "drtool.yaml").open("a") as config:
        config.write("retention: {keep_last: 2, keep_within_yearly: 9y, keep_tag: [gold], timezone: Asia/Tokyo}\n")
    shown = own("forget", "--dry-run", "--json")
    assert (shown.code, shown.document["policy"]) == (0, "last 2, yearly within 9y, tag gold")
    assert shown.document["timezone"] == "Europe/Berlin"
    assert "retention.timezone is Asia/Tokyo, but the repository recorded Europe/Berlin" in shown.err
    assert own("forget", "--keep-daily", "1", "--dry-run", "--json").document["policy"] == "daily 1"
    assert own("forget", "--json").document["remove"] == shown.document["remove"]


def test_a_new_repository_takes_its_time_zone_from_the_configuration(shell):
    config = "sites: {a: {main: {url: a}}}\nretention: {keep_last: 1, timezone: Pacific/Auckland}\n"
    (shell.directory / "drtool.yaml").write_text(config)
    assert shell("init").code == 0
    shown = shell("forget", "--json")
    assert (shown.code, shown.document["timezone"]) == (0, "Pacific/Auckland")
    assert (shown.document["keep"], shown.document["remove"]) == ([], [])


@pytest.mark.parametrize(
    ("zone", "recorded", "warned"),
    [
        ("Europe/Berlin", "Europe/Berlin", False),
        (":/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo", False),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "UTC", True),
        ("/nonexistent", "UTC", False),
    ],
)
def test_the_time_zone_that_init_records_is_one_that_every_host_knows(
    zone, recorded, warned, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRTOOL_PASSWORD", "x")
    monkeypatch.setenv("TZ", zone)
    assert run(["init", "--target", f"a={tmp_path}/a"]) == 0
    assert ("retention will use the days and weeks of UTC" in capsys.readouterr().err) == warned
    assert run(["--json", "forget", "--keep-last", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["timezone"] == recorded


def test_an_unknown_configured_time_zone_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRTOOL_PASSWORD", "x")
    (tmp_path / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\nretention: {timezone: Mars/Phobos}\n")
    assert run(["--json", "init"]) == 2
    assert "'Mars/Phobos' is not a known time zone" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_an_alarm(own):
    assert own("forget", "--keep-last", "6").code == 0
    for minute in range(3):
        assert own("backup", "--time", f"2026-03-06T12:0{minute + 1}:00Z", "--host", "web", "-q").code == 0
    shown = own("forget", "--keep-last", "6", "--dry-run", "--json")
    assert (shown.code, len(shown.document["remove"])) == (11, 3)
    refused = own("forget", "--keep-last", "6")
    assert (refused.code, refused.out) == (11, "")
    assert "3 snapshots added since the last run would push out 3 of 6" in refused.err
    assert "add --yes if they are right" in refused.err
    assert own("forget", "--keep-last", "6", "--yes").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no rules"),
        (["--keep-last", "0"], "these rules keep no snapshot"),
        (["--keep-last", "0", "--keep-within", "0h", "--keep-yearly", "0"], "these rules keep no snapshot"),
        (["--keep-last", "-1"], "--keep-last: not a number to keep"),
        (["--keep-daily", "many"], "--keep-daily: not a number to keep"),
        (["--keep-daily", ""], "--keep-daily: not a number to keep"),
        (["--keep-within", "2w"], "--keep-within: not a time span"),
        (["--keep-within-hourly", "5"], "--keep-within-hourly: not a time span"),
        (["--keep-tag", ""], "--keep-tag is empty"),
        (["--snapshot", ""], "--snapshot is empty"),
        (["--snapshot", "latest", "--keep-last", "1"], "cannot be combined with --keep options"),
        (["--keep-last", "1", "--group-by", "hosts"], "unknown word 'hosts'; the nearest known one is 'host'"),
        (["--keep-last", "1", "--group-by", "host,"], "unknown word ''"),
        (["--keep-last"], "--keep-last"),
    ],
)
def test_invalid_policies(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRTOOL_PASSWORD", "x")
    (tmp_path / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\n")
    assert run(["--json", "forget", *words]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], message in error["message"]) == ("usage_error", True)


@pytest.mark.parametrize("when", ["2999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_cannot_be_recorded_is_refused(when, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\n")
    assert run(["--json", "backup", "--time", when, "."]) == 2
    assert "is outside the range that a snapshot can record" in json.loads(capsys.readouterr().out)["error"]["message"]
