"""Secrets of a plan: read once at the start of the run, and removed from everything that is written or shown.

Invariants
    A secret has a minimum length, so that it can be removed from text without destroying the text.
    A secret is redacted in every form in which programs print it: plain, percent-encoded, base64, and JSON-escaped.
"""

import base64
import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from drtool.errors import UsageError
from drtool.plans.actions.programs import run_program
from drtool.plans.language.model import SecretRef

REDACTED = "‹secret›"
SHORTEST = 4
COMMAND_TIMEOUT_S = 30.0
_BYTES_MAX = 64 << 10


def read_secrets(refs: Mapping[str, SecretRef], environ: Mapping[str, str]) -> dict[str, str]:
    """Read each secret, by name. A UsageError names the secret and its location, never its value."""
    return {name: _checked(name, _read(name, ref, environ)) for name, ref in refs.items()}


def _checked(name: str, value: str) -> str:
    if len(value) < SHORTEST:
        raise UsageError(f"secret {name}: it has fewer than {SHORTEST} characters, too few to redact it from reports")
    return value


def _read(name: str, ref: SecretRef, environ: Mapping[str, str]) -> str:
    if ref.env is not None:
        if not environ.get(ref.env):
            raise UsageError(f"secret {name}: the environment variable {ref.env} is not set")
        return environ[ref.env]
    if ref.command:
        result = run_program(ref.command, ends_at=time.monotonic() + COMMAND_TIMEOUT_S, env=environ)
        if result.exit_code or result.ended_by != "itself":
            raise UsageError(f"secret {name}: {ref.command[0]} ended with {result.exit_code}")
        return _line(result.stdout)
    return _line(_file(name, ref, environ))


def _file(name: str, ref: SecretRef, environ: Mapping[str, str]) -> bytes:
    path = Path(ref.file or "")
    if ref.systemd_credential is not None:
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise UsageError(
                f"secret {name}: systemd passed no credentials",
                hint="set LoadCredential= in the unit that runs the plan",
            )
        path = Path(directory) / ref.systemd_credential
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o077 and ref.systemd_credential is None:
                raise UsageError(f"secret {name}: {path} is readable by others", hint=f"chmod 600 {path}")
            return file.read(_BYTES_MAX)
    except OSError as error:
        raise UsageError(f"secret {name}: {path} cannot be read: {error.strerror}") from None


def _line(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").splitlines()[0] if data.strip() else ""


def redactor(secrets: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that removes every form of every secret from a text, the longest first."""
    forms = {form for value in secrets.values() for form in _forms(value) if len(form) >= SHORTEST}
    ordered = sorted(forms, key=len, reverse=True)

    def redact(text: str) -> str:
        for form in ordered:
            text = text.replace(form, REDACTED)
        return _without_ends(text, ordered)

    return redact


def _without_ends(text: str, forms: Sequence[str]) -> str:
    """Redact a part of a secret at the beginning or end of a text that was cut inside a secret."""
    for form in forms:
        for length in range(len(form) - 1, SHORTEST - 1, -1):
            if text.endswith(form[:length]):
                return text[:-length] + REDACTED
            if text.startswith(form[-length:]):
                return REDACTED + text[length:]
    return text


def _forms(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogateescape")
    encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    forms = {value, html.escape(value), raw.hex(), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms |= quoted | {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in quoted}
    return forms | encoded | {one.rstrip("=") for one in encoded} | set(_inside(raw))


def _inside(raw: bytes) -> Iterator[str]:
    """Yield the base64 forms of a secret inside a longer text, at each offset within a group of three bytes."""
    for before in (1, 2):
        whole = before + len(raw)
        text = base64.b64encode(b"\0" * before + raw).decode()
        yield text[before + 1 : whole // 3 * 4]


def redacted(value: Any, redact: Callable[[str], str]) -> Any:  # noqa: ANN401 - any plain value
    """Return a value with secrets removed, from keys too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key) if isinstance(key, str) else key: redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, redact) for item in value]
    return value
