"""Probes of this host: a file, a program.

Invariants
    A file that may not be inspected is unknown: neither present nor absent.
"""

import os
import stat
import time
from hashlib import sha256
from threading import Event

from drtool.errors import DrtoolError
from drtool.plans.actions.port import RunContext
from drtool.plans.actions.probing.replies import CannotAsk, Reply, bad, good
from drtool.plans.actions.programs_run import cannot_start, unlike
from drtool.plans.bounded import TimeUp, WasCancelled
from drtool.plans.language.actions import RunExpect
from drtool.plans.language.probes import CommandProbe, FileProbe
from drtool.plans.language.values import duration_text

_PART = 1 << 20
_STDOUT = 64 << 10


def ask_file(probe: FileProbe, ends_at: float) -> Reply:
    path, expect = probe.path, probe.expect
    try:
        found = os.stat(path)
        if not expect.exists:
            return bad(f"{path} exists, but must not", found.st_size)
        problem = _unlike(probe, found, ends_at)
    except (FileNotFoundError, NotADirectoryError):
        if not expect.exists and os.path.islink(path):
            return bad(f"{path} exists as a link, but must not")
        return bad(f"there is no {path}") if expect.exists else good(f"there is no {path}")
    except (OSError, ValueError) as error:
        raise CannotAsk(f"{path} cannot be inspected: {getattr(error, 'strerror', None) or error}") from None
    if problem:
        return bad(f"{path}: {problem}", found.st_size)
    return good(f"{path} exists, with {found.st_size} bytes", found.st_size)


def _unlike(probe: FileProbe, found: os.stat_result, ends_at: float) -> str:
    expect = probe.expect
    if expect.min_size_bytes is not None and found.st_size < expect.min_size_bytes:
        return f"{found.st_size} bytes; expected at least {expect.min_size_bytes}"
    age_s = time.time() - found.st_mtime
    if expect.max_age_s is not None and age_s > expect.max_age_s:
        return f"last changed {duration_text(round(age_s))} ago; expected at most {duration_text(expect.max_age_s)}"
    if expect.contains is None and expect.sha256 is None:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file, so it has no content"
    digest, contains = _read(probe.path, (expect.contains or "").encode(), ends_at)
    if expect.sha256 is not None and digest != expect.sha256:
        return f"its SHA-256 is {digest}; expected {expect.sha256}"
    return "" if contains else f"{expect.contains!r} is not in it"


def _read(path: str, wanted: bytes, ends_at: float) -> tuple[str, bool]:
    """Return (the file's SHA-256, whether it contains `wanted`)."""
    hasher, contains, tail = sha256(), not wanted, b""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        while part := file.read(_PART):
            if time.monotonic() > ends_at:
                raise TimeUp(f"{path} could not be read in time")
            hasher.update(part)
            contains = contains or wanted in tail + part
            tail = (tail + part)[-max(0, len(wanted) - 1) :] if len(wanted) > 1 else b""
    return hasher.hexdigest(), contains


def ask_command(probe: CommandProbe, run_context: RunContext, ends_at: float, cancelled: Event | None) -> Reply:
    env = {**run_context.environ, **probe.env}
    if "/" not in probe.argv[0] and (problem := cannot_start(probe.argv[0], run_context)) and "PATH" not in probe.env:
        raise CannotAsk(problem)
    try:
        stdin = probe.stdin.encode() if probe.stdin is not None else None
        result = run_context.program(probe.argv, ends_at=ends_at, cancelled=cancelled, env=env, stdin=stdin)
    except DrtoolError as error:
        raise CannotAsk(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    if result.ended_by == "timeout":
        raise TimeUp(f"{probe.argv[0]} did not end in time")
    if result.ended_by == "cancelled":
        raise WasCancelled("the run was cancelled")
    text = result.stdout.decode("utf-8", "backslashreplace")[:_STDOUT].rstrip("\n")
    expect = probe.expect
    wanted = RunExpect(
        exit_codes=expect.exit_codes, stdout_contains=expect.stdout_contains, stdout_matches=expect.stdout_matches
    )
    if problem := unlike(wanted, result):
        last = result.stderr.strip().splitlines()[-1:]
        return bad(f"{probe.argv[0]} {problem}" + (f": {last[0][:300]}" if last else ""), text, result.exit_code)
    return good(f"{probe.argv[0]} ended with {result.exit_code}", text, result.exit_code)
