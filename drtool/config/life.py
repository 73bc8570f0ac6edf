"""The operational part of drtool.yaml: schedules, hooks, objectives.

Invariants
    A hook is a list of words, run without a shell, or one word: an https (or http) URL to ping, or `notify:CHANNEL`.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from drtool.config.cron import Cron, parse_when
from drtool.config.document import read_as

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 10 * 366 * 86_400


def seconds(text: object) -> int:
    """Read `30m`, `26h`, `2d` in seconds. 0 is allowed. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else str(text) if text == 0 and not isinstance(text, bool) else ""
    number, unit = (word[:-1], word[-1:]) if word[-1:] in _SECONDS else (word, "")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or (not unit and int(number)):
        raise ValueError(f"not a duration (write 90s, 30m, 26h or 2d): {text!r}")
    found = int(number) * _SECONDS.get(unit, 1)
    if found > _LONGEST_S:
        raise ValueError(f"longer than 10 years: {text!r}")
    return found


def when(text: object) -> str | None:
    """Check a time to run, and return it as written. `off` is None. Raises ValueError."""
    if text in ("off", False):  # YAML 1.2 reads `off` as text; `false` means the same
        return None
    parse_when(text)
    return str(text)


When: TypeAlias = Annotated[str | None, read_as(when)]


class Schedule(Struct, frozen=True, kw_only=True):
    """The times of each command, in this host's time zone. None: never."""

    backup: When = "daily 01:00"
    prune: When = "daily 02:30"
    verify: When = "weekly sun 03:00"
    repair: When = None
    """For hosts where a plan verifies and `verify`, which also repairs, is off."""
    status: When = "daily 06:45"
    verify_budget: Annotated[str, Meta(min_length=2)] = "2h"
    """The value of `verify --budget`."""
    jitter: Annotated[int, read_as(seconds)] = 1800
    """Each host starts at its own offset within this many seconds."""
    plans: bool = True
    """Whether plans with a schedule run."""

    def times(self) -> dict[str, Cron]:
        """Return the scheduled commands and their times."""
        written = {name: getattr(self, name) for name in ("backup", "prune", "verify", "repair", "status")}
        return {name: parse_when(text) for name, text in written.items() if text is not None}


def hook_list(value: object) -> object:
    """Read one hook or several: `[mount, /mnt/nas]`, `https://…`, or a list of these. Raises ValueError."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list):
        raise ValueError(_HOOKS)  # noqa: TRY004 - the reader of the document asks for ValueError
    if listed and all(isinstance(word, str) for word in listed) and not _stands_alone(listed[0]):
        listed = [listed]
    return [_hook(each) for each in listed]


_HOOKS = (
    "expected a list of words such as [mount, /mnt/nas], a URL such as https://hc-ping.com/…, notify:CHANNEL, or "
    "a list of these"
)


def _hook(value: object) -> list[str]:
    if isinstance(value, str) and _stands_alone(value):
        return [value]
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value) and value[0]:
        return list(value)
    raise ValueError(_HOOKS)


def _stands_alone(word: str) -> bool:
    """Return whether a word is a URL or a channel of `notify:`, instead of a word of a command."""
    return word.startswith(("https://", "http://", TELL))


TELL = "notify:"
"""The prefix of a hook that notifies people through a channel."""
HookList: TypeAlias = Annotated[tuple[tuple[str, ...], ...], read_as(hook_list)]


class Hooks(Struct, frozen=True, kw_only=True):
    """The hooks around `backup`, `verify` and `prune`. A hook that is a single URL is pinged."""

    before_backup: HookList = ()
    after_backup: HookList = ()
    before_verify: HookList = ()
    after_verify: HookList = ()
    before_prune: HookList = ()
    after_prune: HookList = ()
    on_failure: HookList = ()
    timeout: Annotated[int, read_as(seconds)] = 600
    """The time limit of each hook in seconds."""

    def channels(self) -> set[str]:
        """Return the channels that hooks notify."""
        listed = (getattr(self, field) for field in self.__struct_fields__ if field != "timeout")
        return {words[0].removeprefix(TELL) for hooks in listed for words in hooks if words[0].startswith(TELL)}


class Objective(Struct, frozen=True, kw_only=True):
    """The requirements for one source. `status` exits with 7 if one is not met."""

    rpo: Annotated[int | None, read_as(lambda text: None if text is None else seconds(text))] = None
    """The greatest age of the newest snapshot."""
    copies: Annotated[int, Meta(ge=1, le=16)] | None = None
    proven: Annotated[int | None, read_as(lambda text: None if text is None else seconds(text))] = None
    """The longest time since everything that the newest snapshot needs, or its proof, was read whole."""
