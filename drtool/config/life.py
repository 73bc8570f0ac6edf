"""What drtool.yaml says of everyday life: when things run, what runs around them, what must hold.

Invariants
    A hook is a list of words, run without a shell; or one word: an https (or http) address that is pinged, `notify:CHANNEL`.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from drtool.config.cron import Cron, parse_when
from drtool.config.document import read_as

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 10 * 366 * 86_400


def seconds(text: object) -> int:
    """`30m`, `26h`, `2d`; 0 is nothing. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else str(text) if text == 0 and not isinstance(text, bool) else ""
    number, unit = (word[:-1], word[-1:]) if word[-1:] in _SECONDS else (word, "")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or (not unit and int(number)):
        raise ValueError(f"not a duration (write 90s, 30m, 26h or 2d): {text!r}")
    found = int(number) * _SECONDS.get(unit, 1)
    if found > _LONGEST_S:
        raise ValueError(f"longer than ten years: {text!r}")
    return found


def when(text: object) -> str | None:
    """A time to run, as it was written; `off` is None. Raises ValueError."""
    if text in ("off", False):  # YAML 1.2 reads `off` as a word; who quotes nothing and writes false means the same
        return None
    parse_when(text)
    return str(text)


When: TypeAlias = Annotated[str | None, read_as(when)]


class Schedule(Struct, frozen=True, kw_only=True):
    """When each command runs, in this host's time zone; None: never."""

    backup: When = "daily 01:00"
    prune: When = "daily 02:30"
    verify: When = "weekly sun 03:00"
    repair: When = None
    """For where a plan verifies and `verify`, which repairs as well, is off."""
    status: When = "daily 06:45"
    verify_budget: Annotated[str, Meta(min_length=2)] = "2h"
    """What `verify --budget` takes."""
    jitter: Annotated[int, read_as(seconds)] = 1800
    """Each host begins at a moment of its own within so many seconds."""
    plans: bool = True
    """Whether plans that say when they run do so."""

    def times(self) -> dict[str, Cron]:
        """The commands that run, and when."""
        written = {name: getattr(self, name) for name in ("backup", "prune", "verify", "repair", "status")}
        return {name: parse_when(text) for name, text in written.items() if text is not None}


def hook_list(value: object) -> object:
    """One hook or several: `[mount, /mnt/nas]`, `https://…`, or a list of these. Raises ValueError."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list):
        raise ValueError(_HOOKS)  # noqa: TRY004 - the reader of the document asks for ValueError
    if listed and all(isinstance(word, str) for word in listed) and not _stands_alone(listed[0]):
        listed = [listed]
    return [_hook(each) for each in listed]


_HOOKS = (
    "expected a list of words such as [mount, /mnt/nas], an address such as https://hc-ping.com/…, notify:CHANNEL, or "
    "a list of these"
)


def _hook(value: object) -> list[str]:
    if isinstance(value, str) and _stands_alone(value):
        return [value]
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value) and value[0]:
        return list(value)
    raise ValueError(_HOOKS)


def _stands_alone(word: str) -> bool:
    """An address, or a channel of `notify:`; anything else is a word of a command."""
    return word.startswith(("https://", "http://", TELL))


TELL = "notify:"
"""Begins a hook that tells people, through the channel that it names."""
HookList: TypeAlias = Annotated[tuple[tuple[str, ...], ...], read_as(hook_list)]


class Hooks(Struct, frozen=True, kw_only=True):
    """What runs around `backup`, `verify` and `prune`. A hook of one word that is an address is pinged."""

    before_backup: HookList = ()
    after_backup: HookList = ()
    before_verify: HookList = ()
    after_verify: HookList = ()
    before_prune: HookList = ()
    after_prune: HookList = ()
    on_failure: HookList = ()
    timeout: Annotated[int, read_as(seconds)] = 600
    """Seconds that each hook may take."""

    def channels(self) -> set[str]:
        """The channels that are to be told of something."""
        listed = (getattr(self, field) for field in self.__struct_fields__ if field != "timeout")
        return {words[0].removeprefix(TELL) for hooks in listed for words in hooks if words[0].startswith(TELL)}


class Objective(Struct, frozen=True, kw_only=True):
    """What must hold for one source; `status` is 7 where it does not."""

    rpo: Annotated[int | None, read_as(lambda text: None if text is None else seconds(text))] = None
    """How old the newest snapshot may be."""
    copies: Annotated[int, Meta(ge=1, le=16)] | None = None
    proven: Annotated[int | None, read_as(lambda text: None if text is None else seconds(text))] = None
    """How long ago everything that the newest snapshot needs, or what proves it, may have been read whole."""
