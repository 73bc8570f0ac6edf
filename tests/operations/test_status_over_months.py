"""`status` over weeks of daily backups: green while all is well, red on the day on which something waited too long."""

import time

import pytest
from msgspec.structs import replace
from three_sites import fill, noise

from drtool.config.life import Objective, Schedule
from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.operations.backup import SourceJob
from drtool.operations.status import status
from drtool.operations.verify import Sample, VerifyRequest, verify

HOUR_S = 3600
DAY_S = 24 * HOUR_S
OBJECTIVES = {"home": Objective(rpo=26 * HOUR_S, copies=2, proven=35 * DAY_S)}
WEEKLY = VerifyRequest(level="sample", sample=Sample(size_bytes=20 << 30))


class Life:
    """One host: a backup each night at one, `verify` on Sundays at three, `status` each morning at a quarter to seven."""

    def __init__(self, world, repository) -> None:
        self.world, self.repository = world, repository
        self.source = fill(world.root / "source", {"first": noise(50_000)})
        self.began_ns = time.time_ns() + 3600 * 10**9

    def at(self, day, hour) -> int:
        return self.began_ns + int(day * DAY_S + hour * HOUR_S) * 10**9

    def look_again(self):
        self.repository.adopt(self.repository.manifest.read())

    def morning(self, day, *, verifies=True, keep=None):
        """The problems that `status` lists on that day."""
        (self.source / "diary").write_text(f"day {day}\n")
        job = SourceJob(name="home", paths=(bytes(self.source),))
        self.world.run_jobs(self.repository, job, time_ns=self.at(day, 1), now_ns=self.at(day, 1))
        self.look_again()
        if keep is not None:
            self.forget_all_but(keep)
        if verifies and day % 7 == 6:
            verify(self.repository, replace(WEEKLY, now_ns=self.at(day, 3)), ignore)
            self.look_again()
        return status(self.repository, ignore, OBJECTIVES, now_ns=self.at(day, 6.75)).problems

    def forget_all_but(self, keep) -> None:
        rows = sorted(self.repository.view.state.snapshots, key=lambda row: row.sequence)
        if len(rows) > keep:
            gone = tuple(row.id for row in rows[:-keep])
            self.repository.adopt(self.repository.manifest.commit(ForgetSnapshots(snapshots=gone)).view)


@pytest.fixture
def life(world):
    with world.open() as repository:
        yield Life(world, repository)


def test_the_defaults_of_the_schedule_are_those_that_are_lived_here():
    schedule = Schedule()
    assert (schedule.backup, schedule.verify, schedule.status) == ("daily 01:00", "weekly sun 03:00", "daily 06:45")


def test_a_month_of_defaults_is_green_every_morning(life):
    assert {day: told for day in range(31) if (told := life.morning(day))} == {}


def test_a_month_in_which_nothing_is_verified_any_more_turns_red_on_the_right_day(life):
    """The Sunday of the first week proves the snapshot of that night: 35 days later it is too old."""
    red = {}
    for day in [*range(8), 20, 30, 40, 41, 42]:
        told = [line for line in life.morning(day, verifies=day < 7) if "proven" in line]
        if told:
            red[day] = told
    assert sorted(red) == [41, 42]
    assert "the newest proven snapshot is 35.2 d old, and 35 d are allowed" in red[41][0]


def test_a_never_verified_source_turns_red_though_old_snapshots_are_forgotten(life):
    red = [
        day
        for day in [*range(6), 20, 34, 35, 36]
        if any("proven" in line for line in life.morning(day, verifies=False, keep=3))
    ]
    assert red == [35, 36]


def test_a_proof_grows_old_though_the_snapshots_that_it_proves_are_forgotten(life):
    days = [*range(10), 25, 40, 41, 42]
    red = [day for day in days if any("proven" in line for line in life.morning(day, verifies=day < 7, keep=3))]
    assert red == [41, 42]
