"""Measurement of one command: wall time, CPU, peak memory of its whole process tree, and other load on the machine.

Invariants
    Nothing is timed while caches are being warmed or dirty pages of an earlier run are being written.
    A command runs in its own session, so its whole tree can be found in /proc and ended together.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

_MIB = 1 << 20
_SAMPLE_EVERY_S = 0.1
_LAUNCHER = str(Path(__file__).with_name("launch.py"))


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of one command."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_memory_mib: float
    """The sum over the tree of private memory, plus the largest shared part; sampled, or the largest process's ru_maxrss."""
    sync_s: float
    """The duration of a `sync` just after it, for the data that the kernel still had to write."""
    other_cpu_s: float
    """CPU that the rest of the machine used during the run. A large part of `wall_s` means a contaminated run."""

    @property
    def contaminated(self) -> bool:
        return self.other_cpu_s > max(0.2, 0.1 * self.wall_s)


class TreeMemory(threading.Thread):
    """A thread that samples the memory of every process in one session, except its leader (launch.py), until it is stopped."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.peak_mib = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(_SAMPLE_EVERY_S):
            self.peak_mib = max(self.peak_mib, self._sample())

    def _sample(self) -> float:
        private = shared = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if int(pid) != self.session and os.getsid(int(pid)) == self.session:
                    _, resident, common = Path(f"/proc/{pid}/statm").read_text().split()[:3]
                    private += int(resident) - int(common)
                    shared = max(shared, int(common))
            except (OSError, ValueError):
                continue  # it ended during the look
        return (private + shared) * os.sysconf("SC_PAGE_SIZE") / _MIB


def warm(*trees: Path) -> None:
    """Read everything below `trees` into the page cache."""
    buffer = bytearray(_MIB)
    for tree in trees:
        for folder, _, names in os.walk(tree):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb", buffering=0) as file:
                        while file.readinto(buffer):
                            pass


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, limit_s: float) -> Cost:
    """Run `command` in `folder`, and append its output to `log`. It is killed after `limit_s` (and exits with -9)."""
    subprocess.run(["sync"], check=True)
    busy_before = _machine_busy_s()
    figures, peak_mib = _launch(command, environment, folder, log, limit_s)
    code, wall_s, cpu_s, largest_kib = figures or (-signal.SIGKILL, limit_s, 0.0, 0.0)
    others_s = max(0.0, _machine_busy_s() - busy_before - cpu_s)
    began = time.perf_counter()
    subprocess.run(["sync"], check=True)
    return Cost(
        exit_code=int(code),
        wall_s=round(wall_s, 3),
        cpu_s=round(cpu_s, 3),
        peak_memory_mib=round(max(peak_mib, largest_kib / 1024), 1),
        sync_s=round(time.perf_counter() - began, 3),
        other_cpu_s=round(others_s, 3),
    )


def _launch(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, limit_s: float
) -> tuple[list[float] | None, float]:
    """Return the record of launch.py (exit code, wall s, CPU s, largest process KiB; None if it was killed) and the peak MiB."""
    reader, writer = os.pipe()
    with log.open("ab") as output, os.fdopen(reader) as figures:
        output.write(f"\n$ {' '.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCHER, str(writer), *command],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        memory = TreeMemory(process.pid)
        memory.start()
        alarm = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        process.wait()
        alarm.cancel()
        memory.stop.set()
        memory.join()
        written = figures.read()
    return ([float(word) for word in written.split()] or None), memory.peak_mib


def tree_bytes(tree: Path) -> int:
    """Return the total size of the files below `tree`."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(tree) for name in names)


def _machine_busy_s() -> float:
    user, nice, system, _, _, irq, softirq = (int(word) for word in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
