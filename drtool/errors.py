"""The deliberate failures of drtool. The class carries the exit code.

    DrtoolError                        exit 1
    ├── UsageError                     2    a bad option, argument or combination
    │   └── ConfigError                2    a bad configuration file: says file, line and the nearest key
    ├── Incomplete                     3    done, but some items are missing, and each was listed
    ├── DamageFound                    4    verify found what is not (all) repaired
    ├── Degraded                       5    stored with fewer copies than promised
    ├── NoQuorum                       6    the manifest cannot be read or written for certain
    ├── NoRepository                   10   nothing there to open
    ├── Refused                        11   it would lose data
    ├── WrongPassword                  12   no key slot opens
    ├── SealBroken                     1    bytes that no key of this repository sealed, which is damage
    │   └── KeyMissing                 12   sealed under a key that this password's slot does not hold
    ├── FormatError                    1    authentic but malformed bytes, or a format from the future
    ├── NoSuchSnapshot                 1    no snapshot, or more than one, is meant by what was given
    ├── Rejected                       1    the manifest's state machine refused an operation
    ├── Diverged                       1    the manifest is not a descendant of what this host saw confirmed
    ├── Forked                         1    the manifest was recovered twice: a person must choose
    └── StoreError                     1    a target refused or failed, with its name
        ├── ObjectMissing              1
        ├── TargetOffline              1    transient
        │   ├── TargetBusy             1    transient: it answers that it is busy
        │   ├── TargetResting          1    it failed repeatedly, so it is not asked for a while
        │   └── TargetUnanswered       1    transient: it was asked, and no answer came, so it may have taken effect
        │       └── TargetHung         1    transient: no answer in time, so it may take effect at any time
        ├── TargetFull                 1
        └── TargetReadOnly             1

`Interrupted` (129 / 130 / 143) is not in the tree. Like KeyboardInterrupt, it is a BaseException, because Ctrl-C is no
failure of a file, a copy or a site, and code that handles such failures must not catch it.

`transient` is True if an unchanged retry may help. A message is one sentence with what failed and where. `hint` is what
to do next. When several exit codes apply, the first in `EXIT_PRECEDENCE` wins.
"""

import signal
from typing import ClassVar

INTERRUPTS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""The signals that ask a command to end: a lost terminal, Ctrl-C, and a service manager."""

EXIT_MEANINGS: dict[int, str] = {
    0: "done, and nothing is wrong",
    1: "failed",
    2: "usage or configuration error",
    3: "done, but incomplete: some items could not be read or restored (each is listed)",
    4: "damage found (verify), and not all of it was repaired",
    5: "stored, but with fewer copies than promised (degraded); `repair` will complete it",
    6: "the manifest has no quorum",
    7: "an objective was missed",
    8: "a plan's undo or cleanup is incomplete; leftovers are listed",
    9: "a plan's requirement could not be proven either way",
    10: "no repository there",
    11: "refused: it would lose data",
    12: "wrong password or key",
    75: "another run holds this plan's concurrency group",
    129: "interrupted (SIGHUP: the terminal was lost)",
    130: "interrupted (Ctrl-C)",
    141: "the reader of a dump left before its end (SIGPIPE)",
    143: "interrupted (SIGTERM)",
}
EXIT_READER_LEFT = 141
EXIT_PRECEDENCE: tuple[int, ...] = (129, 130, 143, 141, 2, 75, 10, 12, 6, 11, 1, 4, 3, 8, 9, 7, 5, 0)


def worst_exit(*codes: int) -> int:
    """Return the one exit code to report when all of `codes` apply."""
    return min(codes or (0,), key=EXIT_PRECEDENCE.index)


class DrtoolError(Exception):
    """An expected failure: no traceback, one sentence, an exit code."""

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """Return the class name for JSON readers: `no_quorum` for `NoQuorum`."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class UsageError(DrtoolError):
    exit_code = 2


class ConfigError(UsageError):
    """One or several problems. Each is a line of the message."""

    def __init__(self, *problems: str, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class NoPassword(UsageError):
    """No password was found or could be read. JSON readers see a usage error."""

    @property
    def kind(self) -> str:
        return "usage_error"


class Incomplete(DrtoolError):
    exit_code = 3


class DamageFound(DrtoolError):
    exit_code = 4


class Degraded(DrtoolError):
    exit_code = 5


class NoQuorum(DrtoolError):
    exit_code = 6
    transient = True


class NoRepository(DrtoolError):
    exit_code = 10


class Refused(DrtoolError):
    exit_code = 11


class WrongPassword(DrtoolError):
    exit_code = 12


class Interrupted(BaseException):
    """One of `INTERRUPTS` arrived. Stored data is kept, and the next run reuses it."""

    kind: ClassVar[str] = "interrupted"
    message: ClassVar[str] = "interrupted; the data stored so far is kept"
    hint: ClassVar[str | None] = "run the same command again: it reuses the stored data"

    def __init__(self, signal_number: int) -> None:
        super().__init__(self.message)
        self.signal_number = signal_number


class SealBroken(DrtoolError):
    pass


class KeyMissing(SealBroken):
    exit_code = 12


class FormatError(DrtoolError):
    pass


class NoSuchSnapshot(DrtoolError):
    pass


class Rejected(DrtoolError):
    """The manifest's state machine refused. `reason` is a stable word that callers branch on."""

    def __init__(self, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Diverged(DrtoolError):
    pass


class Forked(DrtoolError):
    pass


class StoreError(DrtoolError):
    """A target failed. `target` is its name, empty while only the store itself is known."""

    def __init__(self, message: str, *, target: str = "", hint: str | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.target = target
        self.retry_after_s = retry_after_s
        """The seconds that the server asked to wait."""


class ObjectMissing(StoreError):
    pass


class TargetOffline(StoreError):
    transient = True


class TargetBusy(TargetOffline):
    transient = True


class TargetResting(TargetOffline):
    transient = False


class TargetHeld(TargetOffline):
    """The request was not sent, because the server asked to wait for `retry_after_s`."""

    transient = True


class TargetUnanswered(TargetOffline):
    """A write was sent and never answered. If nothing was sent, `TargetOffline` is raised instead."""

    transient = True


class TargetHung(TargetUnanswered):
    pass


class TargetFull(StoreError):
    pass


class TargetReadOnly(StoreError):
    pass
