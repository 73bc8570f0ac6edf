"""The processes of the scenario: started, killed, stopped, continued, and started again, as cron would."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FAKETIME = ("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
CLOCKS = ("+3d", "-3d", "+80y", "-25y", "-50y", "+1s", "-2h", "+0")
ADMIN = "admin"
ASLEEP_MAX = 2
WORKER = Path(__file__).with_name("chaos_worker.py")
PRELOAD = Path(__file__).with_name("preload")


def faketime_library() -> str:
    """Where libfaketime is; empty if it is not installed."""
    paths = (path.format(machine=os.uname().machine) for path in FAKETIME)
    return next((path for path in paths if Path(path).exists()), "")


@dataclass
class Member:
    """One host and its present process."""

    name: str
    process: "subprocess.Popen[bytes] | None" = None
    runs: int = 0
    starts_at: float = 0.0
    continues_at: float = 0.0
    errand: tuple[str, ...] = ()
    """Words for one process only; a member with an errand is started again until it is done, and then rests."""
    resting: bool = False


class Crew:
    """All hosts. `poll` must be called every few hundredths of a second."""

    def __init__(self, world: Path, hosts: list[str], rng: random.Random, stop_s: tuple[float, float]) -> None:
        self.world = world
        self.admin = Member(ADMIN, resting=True)
        self.members = [*(Member(name) for name in hosts), self.admin]
        self.rng = rng
        self.stop_s = stop_s
        self.library = faketime_library()
        self.groups: list[int] = []
        self._pids: list[int] = []
        self.deaths = self.stops = 0
        self.complaints: list[str] = []
        for member in self.members:
            self.set_clock(member.name, "+0")

    def poll(self, *, again: bool = True) -> None:
        """Notice who died or stopped; start and continue who is due."""
        now = time.monotonic()
        for member in self.members:
            self._reap(member, now)
            if member.continues_at and member.continues_at <= now:
                self._continue(member)
            if again and not member.resting and member.process is None and member.starts_at <= now:
                self.start(member, *member.errand)

    def start(self, member: Member, *words: str) -> None:
        member.runs += 1
        command = [sys.executable, str(WORKER), str(self.world), member.name, str(member.runs), *words]
        errors = self.world / "errors" / f"{member.name}.{member.runs}"
        with errors.open("wb") as file:
            member.process = subprocess.Popen(
                command,
                env=self._environment(member.name),
                stdin=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        self.groups.append(member.process.pid)
        self._pids.append(member.process.pid)

    def send_admin(self, *errand: str) -> bool:
        """The administrator goes on an errand, unless one is under way."""
        if not self.admin.resting:
            return False
        self.admin.errand, self.admin.resting, self.admin.starts_at = errand, False, 0.0
        return True

    def kill(self) -> str:
        """Signal 9: to a process alone, or to its children as well."""
        member = self._anybody()
        if member is None or member.process is None:
            return ""
        alone = self.rng.random() < 0.5
        (os.kill if alone else os.killpg)(member.process.pid, signal.SIGKILL)
        return f"{member.name} killed"

    @property
    def enough_asleep(self) -> bool:
        """Somebody must be at work while others stand still."""
        return sum(bool(member.continues_at) for member in self.members) >= ASLEEP_MAX

    def stop(self) -> str:
        member = self._anybody()
        if member is None or member.process is None or self.enough_asleep:
            return ""
        os.killpg(member.process.pid, signal.SIGSTOP)
        return f"{member.name} stopped"

    def _anybody(self) -> Member | None:
        """Somebody who runs, and is not stopped."""
        running = [member for member in self.members if member.process is not None and not member.continues_at]
        return self.rng.choice(running) if running else None

    def clock(self) -> str:
        """Set one host's clock wrong, or right again; runs that are under way see it jump."""
        if not self.library:
            return ""
        member, offset = self.rng.choice(self.members), self.rng.choice(CLOCKS)
        self.set_clock(member.name, offset)
        return f"{member.name}'s clock {offset}"

    def set_clock(self, name: str, offset: str) -> None:
        file = self.world / "clocks" / name
        fresh = file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.replace(file)

    def wait_until_ready(self, patience_s: float) -> None:
        """Until everybody has begun: six interpreters that start at once take their time."""
        ends_at = time.monotonic() + patience_s
        while any(not member.resting and not self._has_begun(member) for member in self.members):
            self.poll()
            time.sleep(0.05)
            if time.monotonic() > ends_at:
                raise TimeoutError("the processes do not start")

    def _has_begun(self, member: Member) -> bool:
        diary = self.world / "history" / f"{member.name}.{member.runs}.jsonl"
        return diary.exists() and diary.stat().st_size > 0

    def end(self, patience_s: float) -> None:
        """Everybody goes on, finishes the call at hand, and ends; also what killed processes left behind."""
        for member in self.members:
            if member.process is not None:
                self._continue(member)
                os.kill(member.process.pid, signal.SIGTERM)  # Popen's own way would look for its end first
        self._wait(patience_s)

    def _wait(self, patience_s: float) -> None:
        ends_at = time.monotonic() + patience_s
        while any(member.process is not None for member in self.members) or self._groups_alive():
            if time.monotonic() > ends_at:
                self.complaints += [f"{member.name} does not end" for member in self.members if member.process]
                self.slaughter()
                return
            self.poll(again=False)
            time.sleep(0.05)

    def settle(self, patience_s: float) -> None:
        """Each host once more, to finish what its dead runs had sent."""
        for member in self.members:
            self.start(member, "settle")
        self._wait(patience_s)

    def slaughter(self) -> None:
        for group in self._groups_alive():
            os.killpg(group, signal.SIGKILL)
        for member in self.members:
            if member.process is not None:
                member.process.wait()
                member.process = None
        for pid in self._pids:  # what libfaketime leaves behind with a killed process
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)

    def _groups_alive(self) -> list[int]:
        alive = []
        for group in self.groups:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                continue
            alive.append(group)
        self.groups = alive
        return alive

    def _reap(self, member: Member, now: float) -> None:
        if member.process is None:
            return
        pid, status = os.waitpid(member.process.pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return
        if os.WIFSTOPPED(status):
            self.stops += 1
            member.continues_at = now + self.rng.uniform(*self.stop_s)
            return
        code = member.process.returncode = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            self.deaths += 1
        elif code == 0 and member.errand:
            member.resting = True
        elif code not in (0, -signal.SIGTERM):  # told to end before it could listen
            errors = self.world / "errors" / f"{member.name}.{member.runs}"
            self.complaints.append(f"{member.name} ended with {code}: {errors.read_text()[-2000:]}")
        member.process, member.continues_at = None, 0.0
        member.starts_at = now + self.rng.uniform(0.0, 0.7)

    def _continue(self, member: Member) -> None:
        member.continues_at = 0.0
        if member.process is not None:
            os.killpg(member.process.pid, signal.SIGCONT)

    def _environment(self, name: str) -> dict[str, str]:
        plain = {
            key: value for key, value in os.environ.items() if not key.startswith(("DRTOOL_", "FAKETIME", "LD_PRELOAD"))
        }
        if not self.library:
            return plain
        return plain | {
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.world / "clocks" / name),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else the interpreter lock is waited for by spinning
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(PRELOAD),
        }
