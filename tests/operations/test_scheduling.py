"""Timers as text and as files: the same bytes each time, only our own files, parsed by systemd and cron."""

import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from drtool.config import Config
from drtool.config.cron import parse_cron, parse_when
from drtool.config.life import Hooks, Schedule
from drtool.config.schema import Retention, TargetConfig
from drtool.errors import ConfigError, Refused
from drtool.operations.scheduling import Job, Place, apply, jobs_of
from drtool.operations.scheduling.crontab import BEGIN, END, block, with_block
from drtool.operations.scheduling.files import configurations, cron_file_change, prefix_for, unit_changes
from drtool.operations.scheduling.jobs import next_start, writable_places
from drtool.operations.scheduling.systemd import calendar, owner, units

PLACE = Place(
    program=("/bin/true",),
    config=Path('/etc/dr tool/100% "$mine".yaml'),
    host="web1",
    password_file=Path("/etc/drtool/password"),
    writable=(Path("/mnt/nas"),),
    user=False,
)
CONFIG = Config(retention=Retention(keep_last=3), sites={"a": {"main": TargetConfig(url="/mnt/nas")}})


def test_the_defaults_are_four_jobs_and_prune_follows_retention():
    jobs = {job.name: job for job in jobs_of(CONFIG)}
    assert list(jobs) == ["backup", "prune", "verify", "status"]
    assert jobs["prune"].words == ("forget", "--prune")
    assert {job.name: job.words for job in jobs_of(Config())}["prune"] == ("prune",)
    assert jobs["backup"].stored_anyway
    assert not jobs["verify"].stored_anyway


def test_disabled_jobs_are_not_scheduled_and_plans_are_added():
    plan = Job(name="plan-drill", told="x", words=("plan", "run", "d"), when=parse_cron("0 4 * * *"), jitter_s=0)
    schedule = Schedule(backup=None, verify=None)
    assert [job.name for job in jobs_of(replace(CONFIG, schedule=schedule), [plan])] == [
        "prune",
        "status",
        "plan-drill",
    ]
    without = jobs_of(replace(CONFIG, schedule=replace(schedule, plans=False)), [plan])
    assert "plan-drill" not in [job.name for job in without]


def test_a_hook_that_is_a_program_ends_the_confinement_and_a_ping_does_not():
    for hook, confined in ((("https://hc/x",), True), (("mount", "/mnt"), False)):
        (job, *_) = jobs_of(replace(CONFIG, hooks=Hooks(before_backup=(hook,))))
        assert job.sandboxed == confined
        text = units([job], PLACE)["drtool-backup.service"]
        assert ("ProtectSystem=strict" in text) == confined
        assert ("ReadWritePaths=-/mnt/nas" in text) == confined


def test_written_places_are_named():
    config = replace(CONFIG, metrics_file="/var/lib/metrics/drtool.prom")
    assert writable_places(config, Path("/etc")) == (Path("/mnt/nas"), Path("/var/lib/metrics"))


@pytest.mark.parametrize(
    ("words", "moments"),
    [
        ("daily 02:00", ["*-*-* 02:00:00"]),
        ("weekly sun 03:00", ["Sun *-*-* 03:00:00"]),
        ("*/20 * 1 2 *", ["*-02-01 *:00,20,40:00"]),
        ("0 4 13 * 5", ["*-*-13 04:00:00", "Fri *-*-* 04:00:00"]),
    ],
)
def test_cron_fields_become_calendar_moments(words, moments):
    assert calendar(parse_when(words)) == moments


def test_the_unit_of_the_backup_hides_nothing_that_root_sees_and_the_others_do():
    texts = units(jobs_of(CONFIG), PLACE)
    assert "CAP_SYS_ADMIN\n" in texts["drtool-backup.service"]
    for setting in ("\nPrivateTmp=", "\nPrivateDevices=", "\nProtectKernelModules="):
        assert setting not in texts["drtool-backup.service"]
    assert "\nPrivateDevices=true" in texts["drtool-status.service"]
    assert "CAP_SYS_ADMIN" not in texts["drtool-status.service"]


def test_systemd_reads_the_units_back(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    plan = Job(
        name="plan-drill", told="100% x", words=("plan", "run", "a b%$c"), when=parse_cron("0 4 13 * 5"), jitter_s=60,
        zone="Europe/Berlin", sandboxed=False,
    )  # fmt: skip
    texts = units(jobs_of(CONFIG, [plan]), PLACE)
    assert 'ExecStart=/bin/true plan run "a b%%$$c"' in texts["drtool-plan-drill.service"]
    assert 'Environment="DRTOOL_CONFIG=/etc/dr tool/100%% \\"$mine\\".yaml"' in texts["drtool-plan-drill.service"]
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in texts)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "drtool-" in line]
    assert not complaints


def test_cron_runs_exactly_the_words(tmp_path):
    show = tmp_path / "show it"
    show.write_text('#!/bin/sh\nprintf "%s\\n" "$DRTOOL_CONFIG" "$@"\n')
    show.chmod(0o755)
    plan = Job(name="p", told="x", words=("plan", "a b'%c"), when=parse_cron("0 4 * * *"), jitter_s=0)
    text = block([plan], replace(PLACE, program=(str(show),)))
    line = next(line for line in text.splitlines() if line.startswith("0 4"))
    command = line.split("root ", 1)[1].replace("\\%", "%")  # as cron does
    said = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30).stdout
    assert said.splitlines() == [str(PLACE.config), "-q", "plan", "a b'%c"]


def test_a_line_break_in_a_name_is_refused_for_cron():
    job = Job(name="p", told="x", words=("a\nb",), when=parse_cron("0 4 * * *"), jitter_s=0)
    with pytest.raises(ConfigError, match="line break"):
        block([job], PLACE)


def test_a_host_keeps_its_moment_and_hosts_differ():
    (job, *_) = jobs_of(CONFIG)
    assert PLACE.offset_s(job) == PLACE.offset_s(job) < job.jitter_s
    assert len({replace(PLACE, host=f"web{n}").offset_s(job) for n in range(20)}) > 15


def test_only_the_block_of_a_crontab_is_touched():
    ours = block(jobs_of(CONFIG), replace(PLACE, user=True))
    mine = owner(PLACE.config)
    table = "MAILTO=me\n1 2 * * * mine"
    added = with_block(table, ours, mine)
    assert added == f"{table}\n{ours}"
    assert with_block(added, ours, mine) == added
    assert with_block(added + "3 4 * * * more\n", "", mine) == table + "\n3 4 * * * more\n"
    assert with_block("", "", mine) == ""
    for broken in (BEGIN + "\n", END + "\n" + BEGIN + "\n", (BEGIN + "\n" + END + "\n") * 2):
        with pytest.raises(ConfigError, match="damaged"):
            with_block(broken, ours, mine)


def test_two_configurations_have_a_block_of_their_own(tmp_path):
    first, second = replace(PLACE, user=True), replace(PLACE, user=True, config=Path("/etc/second.yaml"))
    jobs = jobs_of(CONFIG)
    both = with_block(
        with_block("", block(jobs, first), owner(first.config)), block(jobs, second), owner(second.config)
    )
    assert both.count(BEGIN) == 2
    fewer = with_block(both, block(jobs[:1], first), owner(first.config))
    assert fewer == block(jobs[:1], first) + block(jobs, second)
    assert with_block(fewer, "", owner(second.config)) == block(jobs[:1], first)
    assert with_block(fewer, "", None) == ""
    for place in (PLACE, replace(PLACE, config=second.config)):
        (change,) = cron_file_change(tmp_path, block(jobs, place), owner(place.config))
        apply(change)
    assert configurations(tmp_path) == sorted(map(owner, (PLACE.config, second.config)))
    (change,) = cron_file_change(tmp_path, "", owner(PLACE.config))
    apply(change)
    assert configurations(tmp_path) == [owner(second.config)]
    (change,) = cron_file_change(tmp_path, "", owner(second.config))
    assert change.verb == "remove", "no block is left"


def test_the_units_of_two_configurations_stand_side_by_side(tmp_path):
    jobs = jobs_of(CONFIG)

    def install(config, repository="Backups of ü!"):
        place = replace(PLACE, config=config)
        place = replace(place, prefix=prefix_for(tmp_path, units(jobs, place), config, repository))
        for change in unit_changes(tmp_path, units(jobs, place), owner(config)):
            apply(change)
        return place.prefix

    second = Path("/etc/second.yaml")
    assert install(PLACE.config) == "drtool"
    prefix = install(second)
    assert prefix.startswith("drtool-backups-of-")
    assert (install(PLACE.config), install(second)) == ("drtool", prefix), "names stay"
    assert len(list(tmp_path.iterdir())) == 4 * len(jobs)
    for change in unit_changes(tmp_path, {}, owner(PLACE.config)):
        apply(change)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{prefix}-{job.name}.{kind}" for job in jobs for kind in ("service", "timer")
    }


def test_cron_starts_a_job_by_the_clock_of_the_host_and_after_its_wait():
    job = Job(
        name="p", told="x", words=("plan",), when=parse_cron("0 4 * * *"), jitter_s=600, zone="Asia/Tokyo"
    )  # fmt: skip
    berlin, now = ZoneInfo("Europe/Berlin"), datetime(2026, 7, 1, tzinfo=UTC)
    wait = timedelta(seconds=PLACE.offset_s(job))
    assert wait
    assert next_start(job, PLACE, "systemd", now, berlin) == datetime(2026, 7, 1, 19, tzinfo=UTC)
    expected = datetime(2026, 7, 1, 2, tzinfo=UTC) + wait
    assert next_start(job, PLACE, "cron", now, berlin) == expected
    assert next_start(job, PLACE, "cron", expected - wait / 2, berlin) == expected, "it waits already"


def test_installing_twice_changes_nothing_and_removing_leaves_other_files(tmp_path):
    foreign = tmp_path / "drtool-other.service"
    foreign.write_text("[Service]\nExecStart=/bin/false\n")
    wanted, mine = units(jobs_of(CONFIG), PLACE), owner(PLACE.config)
    for change in unit_changes(tmp_path, wanted, mine):
        assert change.verb == "write"
        apply(change)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.timer")} == {0o644}
    assert {change.verb for change in unit_changes(tmp_path, wanted, mine)} == {"keep"}
    fewer = units(jobs_of(replace(CONFIG, schedule=Schedule(backup=None, jitter=0))), PLACE)
    verbs = {change.path.name: change.verb for change in unit_changes(tmp_path, fewer, mine)}
    assert verbs["drtool-backup.timer"] == "remove"
    assert verbs["drtool-prune.timer"] == "change"
    for change in unit_changes(tmp_path, {}, mine):
        apply(change)
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_foreign_file_is_not_replaced(tmp_path):
    (tmp_path / "drtool").write_text("17 1 * * * root drtool -q backup\n")
    with pytest.raises(Refused, match="stays as it is"):
        cron_file_change(tmp_path, block(jobs_of(CONFIG), PLACE), owner(PLACE.config))
    assert shlex.split((tmp_path / "drtool").read_text())[0] == "17"
