"""Hooks: programs that run around a command, URLs to ping, and channels to notify.

Invariants
    No shell. Each hook has a time limit, and none of its processes is left afterwards. It never sees how to obtain the
    repository's password. A ping is one GET. Whether a ping or a message arrives has no effect on the command.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from msgspec import Struct

from drtool.config.life import TELL
from drtool.errors import DrtoolError
from drtool.escaping import printable_lines
from drtool.plans.actions.programs import run_program
from drtool.plans.bounded import bounded
from drtool.plans.web import origin, request

PING_S = 10.0
_SECRETS = ("DRTOOL_PASSWORD", "DRTOOL_PASSWORD_FILE", "DRTOOL_PASSWORD_COMMAND")


class Occasion(Struct, frozen=True, kw_only=True):
    """The data that hooks receive in their environment."""

    hook: str
    command: str
    config: str = ""
    exit_code: int | None = None
    """None before the command has run."""
    snapshots: tuple[str, ...] = ()
    message: str = ""

    def environ(self, inherited: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in inherited.items() if name not in _SECRETS}
        told = {
            "DRTOOL_HOOK": self.hook,
            "DRTOOL_COMMAND": self.command,
            "DRTOOL_CONFIG": self.config,
            "DRTOOL_EXIT_CODE": "" if self.exit_code is None else str(self.exit_code),
            "DRTOOL_SNAPSHOT_IDS": " ".join(self.snapshots),
            "DRTOOL_MESSAGE": printable_lines(self.message),
        }
        return kept | told

    def sentence(self) -> str:
        """The message for people."""
        if self.exit_code is None:
            return f"drtool {self.command} begins"
        count = len(self.snapshots)
        stored = f", {count} snapshot{'s' if count > 1 else ''} stored" if count else ""
        return f"drtool {self.command} ended with {self.exit_code}{stored}{': ' if self.message else ''}{self.message}"


Tell: TypeAlias = Callable[[str, str, str], str]
"""(channel, event, message) to the reason why it was not sent, or an empty string."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The failures: programs that failed, and pings without an answer."""

    failed: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


def run_hooks(
    hooks: Iterable[tuple[str, ...]],
    occasion: Occasion,
    inherited: Mapping[str, str],
    *,
    timeout_s: float,
    stop_at_failure: bool = False,
    pings: bool = True,
    tell: Tell | None = None,
) -> Outcome:
    """Run hooks one after the other, each to its end. `pings` says whether to ping URLs and notify people."""
    failed: list[str] = []
    unanswered: list[str] = []
    for words in hooks:
        if stands_alone(words):
            wrong = _heard(words[0], occasion, timeout_s, tell) if pings else ""
            unanswered += [wrong] if wrong else []
            continue
        wrong = _program(words, occasion, inherited, timeout_s)
        if wrong:
            failed.append(wrong)
            if stop_at_failure:
                break
    return Outcome(failed=tuple(failed), unanswered=tuple(unanswered))


def stands_alone(words: tuple[str, ...]) -> bool:
    """Return whether a hook is a URL or a channel instead of a program."""
    return len(words) == 1 and words[0].startswith(("https://", "http://", TELL))


def _heard(word: str, occasion: Occasion, timeout_s: float, tell: Tell | None) -> str:
    """Return why a ping or a message did not arrive, or an empty string."""
    if not word.startswith(TELL):
        return _ping(word, timeout_s)
    channel = word.removeprefix(TELL)
    wrong = "there are no channels" if tell is None else tell(channel, occasion.hook, occasion.sentence())
    return f"channel {channel} could not be notified: {wrong}" if wrong else ""


def _program(words: tuple[str, ...], occasion: Occasion, inherited: Mapping[str, str], timeout_s: float) -> str:
    """Run a program, and return why it failed, or an empty string."""
    what = f"the hook {words[0]} ({occasion.hook})"
    try:
        result = run_program(words, ends_at=time.monotonic() + timeout_s, env=occasion.environ(inherited))
    except DrtoolError as error:
        return f"{what}: {error.message}"
    if result.ended_by != "itself":
        return f"{what} did not end within {timeout_s:g} s and was stopped"
    last = (result.stderr.strip().splitlines() or [""])[-1]
    return f"{what} ended with {result.exit_code}{f': {last}' if last else ''}" if result.exit_code else ""


def _ping(url: str, timeout_s: float) -> str:
    """Ping a URL, and return why it failed, or an empty string. Its path may be a secret, so it is not shown."""
    ends_at = time.monotonic() + min(timeout_s, PING_S)
    try:
        scheme, host, port = origin(url)
        reply = bounded(lambda: request("GET", url, ends_at=ends_at), ends_at)
    except DrtoolError as error:
        return f"a ping failed: {error.message.replace(url, _place(url))}"
    heard = 200 <= reply.status < 300
    return "" if heard else f"a ping failed: {scheme}://{host}:{port} answered with status {reply.status}"


def _place(url: str) -> str:
    return "/".join(url.split("/")[:3])
