"""Five places for objects, as real as this machine allows, and what can be done to each.

A directory can be renamed away; a small tmpfs can also be cut off, remounted read-only and filled; an ext4 file system on a
loop device can also be frozen, and cut off as by a power failure: the EXT4_IOC_SHUTDOWN ioctl in mid-write, then the disk
exactly as it was at that moment (a copy of the image, should somebody still hold the dead file system open), mounted again
with its journal replayed. Mounts need root; they live in a mount namespace of their own and end with it.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
POWER_CUTS = {"flush all": 0, "flush the journal": 1, "flush nothing": 2}
"""EXT4_GOING_FLAGS_DEFAULT, _LOGFLUSH and _NOLOGFLUSH."""

DISK_BYTES = 48 << 20
MOUNTED = (
    "loop,commit=60"  # nothing reaches the disk by waiting a little: only what was synced is there after a power cut
)
BUSY_TRIES = 40


class CannotMount(Exception):
    """Why this machine offers no mounts, or no loop devices."""


def run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMount(f"{words[0]}: {(done.stderr.splitlines() or [done.returncode])[0]}")


def patiently(action: Callable[[], None]) -> bool:
    """Whether it worked before long: somebody may be in the middle of a write, and then the kernel says busy."""
    for _ in range(BUSY_TRIES):
        try:
            action()
        except (CannotMount, OSError):
            time.sleep(0.025)
        else:
            return True
    return False


class Site:
    """A directory. `root` is what drtool is told; `faults` are the names of what can be done to it."""

    faults: tuple[str, ...] = ("away", "slow", "wiped")
    medium = "directory"

    def __init__(self, place: Path, name: str) -> None:
        self.name = name
        self.place = place / name
        self.root = self.place / "drtool"
        self._heal: Callable[[], object] = lambda: None

    def prepare(self) -> None:
        self.place.mkdir(parents=True)

    def begin(self, fault: str, hold_s: float, draw: Callable[[list[str]], str]) -> str:
        """Do it; returns what was done, in words, or nothing if it could not be done just now."""
        method = getattr(self, "_" + fault.replace("-", "_"))
        return str(method(hold_s, draw))

    def heal(self) -> None:
        """The end of the fault, whichever it was."""
        heal, self._heal = self._heal, lambda: None
        heal()

    def close(self) -> None:
        """Nothing to give back."""

    def _away(self, _hold_s: float, _draw: object) -> str:
        aside = self.place.with_name(self.name + ".away")
        self.place.rename(aside)
        self._heal = lambda: aside.rename(self.place)
        return "renamed away"

    def _slow(self, hold_s: float, _draw: object) -> str:
        return "slow"  # the processes are told, and wait before each request

    def _wiped(self, _hold_s: float, _draw: object) -> str:
        """Everything of the manifest is gone, at once; packs are another story."""
        lost = self.place / "lost"
        (self.root / "manifest").rename(lost)
        shutil.rmtree(lost)
        run("sync", "-f", self.place)
        return "wiped"


class TmpfsSite(Site):
    """A small file system in memory."""

    faults = ("cut", "read-only", "full", "slow", "wiped")
    medium = "tmpfs"

    def prepare(self) -> None:
        super().prepare()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "drtool-chaos", self.place)

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.place], capture_output=True, check=False)

    def _cut(self, _hold_s: float, _draw: object) -> str:
        aside = self.place.with_name(self.name + ".cut")
        aside.mkdir(exist_ok=True)
        run("mount", "--move", self.place, aside)
        self._heal = lambda: run("mount", "--move", aside, self.place)
        return "mount cut"

    def _read_only(self, _hold_s: float, _draw: object) -> str:
        if not patiently(lambda: run("mount", "-o", "remount,ro", self.place)):
            return ""
        self._heal = lambda: run("mount", "-o", "remount,rw", self.place)
        return "read-only"

    def _full(self, _hold_s: float, _draw: object) -> str:
        ballast = self.place / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for block in (bytes(1 << 20), bytes(4096)):
                try:
                    while file.write(block):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        self._heal = ballast.unlink
        return "full"


class Ext4Site(TmpfsSite):
    """An ext4 file system in an image file on a loop device."""

    faults = ("cut", "read-only", "full", "slow", "wiped", "frozen", "power-cut")
    medium = "ext4"

    def __init__(self, place: Path, name: str) -> None:
        super().__init__(place, name)
        self.image = place / f"{name}.image.0"
        self.audit: Callable[[Ext4Site], None] = lambda _site: None
        """Called after a power cut, when the disk is mounted again and not yet in service."""

    def prepare(self) -> None:
        self.place.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-m", "0", "-J", "size=4", self.image)
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", MOUNTED, self.image, self.place)

    def _cut(self, _hold_s: float, _draw: object) -> str:
        run("umount", "-l", self.place)
        self._heal = self._mount_again
        return "unmounted"

    def _mount_again(self) -> None:
        """The same disk. Should somebody still hold the old mount, the kernel joins both: no device has two file systems."""

        def mount() -> None:
            device = loop_device_of(self.image)
            run("mount", *((device,) if device else ("-o", MOUNTED, self.image)), self.place)

        if not patiently(mount):
            raise CannotMount(f"{self.name} cannot be mounted again")

    def _frozen(self, hold_s: float, _draw: object) -> str:
        """Writes hang and cannot even be killed. A process of its own ends it, whatever becomes of this one."""
        script = 'fsfreeze -f "$0" && { sleep "$1"; fsfreeze -u "$0"; }'
        thaw = subprocess.Popen(["sh", "-c", script, self.place, str(hold_s)], start_new_session=True)
        self._heal = thaw.wait
        return "frozen"

    def _power_cut(self, _hold_s: float, draw: Callable[[list[str]], str]) -> str:
        how = draw(sorted(POWER_CUTS))
        shut_down(self.place, how)
        run("umount", "-l", self.place)
        time.sleep(0.2)  # what had been sent to the disk when the power went arrives, or not
        before, self.image = self.image, after_power_cut(self.image)
        recovered = self.place.with_name(self.name + ".recovered")
        recovered.mkdir(exist_ok=True)
        run("mount", "-o", MOUNTED, self.image, recovered)

        def back() -> None:
            self.audit(self)
            before.unlink()
            run("mount", "--move", recovered, self.place)

        self._heal = back
        return f"power cut ({how})"

    @property
    def recovered(self) -> Path:
        """Where the disk is between a power cut and its return to service."""
        return self.place.with_name(self.name + ".recovered") / "drtool"


def shut_down(place: Path, how: str) -> None:
    """From now on nothing that is not on the disk yet will come there."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", POWER_CUTS[how]))
    finally:
        os.close(descriptor)


def after_power_cut(image: Path) -> Path:
    """The disk as it is now, under a new name: the dead file system may live on as long as somebody holds it open."""
    stem, _, number = image.name.rpartition(".")
    copy = image.with_name(f"{stem}.{int(number) + 1}")
    shutil.copyfile(image, copy)
    return copy


def loop_device_of(image: Path) -> str:
    done = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", image], capture_output=True, text=True, check=False)
    return done.stdout.split("\n", maxsplit=1)[0].strip()


def why_no_mounts(place: Path) -> tuple[str, str]:
    """(why no tmpfs, why no ext4), each empty where it works; tried, not guessed."""
    if os.geteuid() != 0:
        return "only root can mount", "only root can mount"
    reasons = []
    for kind in (TmpfsSite, Ext4Site):
        site = kind(place, f"probe-{kind.medium}")
        try:
            site.prepare()
            if isinstance(site, Ext4Site):
                shut_down(site.place, "flush nothing")
        except (CannotMount, OSError) as error:
            reasons.append(f"{kind.medium}: {error}")
        else:
            reasons.append("")
        finally:
            site.close()
            shutil.rmtree(site.place, ignore_errors=True)
    return reasons[0], reasons[1]
