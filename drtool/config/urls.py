"""A target's URL: its location, which is the same for every host, separate from this host's access.

    file:///mnt/nas/drtool                                a directory; a plain path means the same
    s3://BUCKET/PREFIX?endpoint=https://s3.example.org    endpoint, region, path_style: where; profile, storage_class: how
    sftp://USER@HOST:PORT/srv/drtool                      identity_file, known_hosts: how

Invariants
    The location is in the URL, and so in the manifest: one URL and the password suffice to recover everything.
    This host's `Access` never leaves the host. A URL with a password in it is refused.
"""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from msgspec import Struct
from msgspec.structs import asdict

FILE_SCHEME = "file://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9._-]+(/[a-z0-9._-]+)*", re.ASCII)
_WHERE = {"s3": ("endpoint", "region", "path_style"), "sftp": ()}
_HOW = {"s3": ("profile", "storage_class"), "sftp": ("identity_file", "known_hosts")}
_FILES = frozenset({"identity_file", "known_hosts"})


class Access(Struct, frozen=True, kw_only=True):
    """This host's access to a target. None: the host's own configuration for S3 or SSH applies."""

    profile: str | None = None
    storage_class: str | None = None
    identity_file: str | None = None
    known_hosts: str | None = None


NO_ACCESS = Access()


def scheme_of(url: str) -> str:
    """Return `file`, `s3` or `sftp`. Raises ValueError for any other scheme."""
    found = _SCHEME.match(url)
    if found is None or url.startswith(FILE_SCHEME):
        return "file"
    scheme = found[1].lower()
    if scheme not in _WHERE:
        raise ValueError(f"{found[1]}:// is not a kind of target; use a path, file://, s3:// or sftp://")
    return scheme


def read_url(text: str, directory: Path, **options: str | bool | None) -> tuple[str, Access]:
    """Return the full URL and the access, from a user's URL and separate options.

    A plain path and file names are relative to `directory`. Nothing is percent-encoded. Raises ValueError.
    """
    if not text:
        raise ValueError("expected a URL or a path")
    scheme = scheme_of(text)
    given = {key: _word(value) for key, value in options.items() if value is not None}
    if scheme == "file":
        _check_keys(scheme, given)
        return _file_url(text, directory), NO_ACCESS
    place, _, query = text.partition("?")
    for key, value in _pairs(query):
        if given.setdefault(key, value) != value:
            raise ValueError(f"the URL has {key}={value}, but the key {key} is {given[key]}")
    _check_keys(scheme, given)
    how = {key: _file(given[key], directory) if key in _FILES else given[key] for key in _HOW[scheme] if key in given}
    where = {key: _checked(key, given[key]) for key in _WHERE[scheme] if key in given}
    return _canonical(scheme, place) + _query(where), Access(**how)


def options_of(url: str) -> tuple[str, dict[str, str]]:
    """Split a full URL into the part before its query, and the options of the query."""
    place, _, query = url.partition("?")
    return place, dict(_pairs(query))


def told_with(url: str, access: Access) -> str:
    """Return the URL as a user would write it on a command line to get this access."""
    how = {key: value for key, value in asdict(access).items() if value is not None}
    place, where = options_of(url) if scheme_of(url) != "file" else (url, {})
    return place + _query(where | how)


def check_url(text: object) -> str:
    """Return the text if it is the URL or path of a target. Raises ValueError."""
    if not isinstance(text, str) or not text:
        raise ValueError("expected a URL or a path")
    read_url(text, Path("/"))
    return text


def _file_url(text: str, directory: Path) -> str:
    if not text.startswith(FILE_SCHEME):
        return FILE_SCHEME + os.path.normpath(directory / text)
    if not text[len(FILE_SCHEME) :].startswith("/"):
        raise ValueError("a file:// URL needs an absolute path: file:///mnt/nas/drtool")
    return text


def _canonical(scheme: str, place: str) -> str:
    parts = urlsplit(place)
    if parts.password is not None:
        raise ValueError(f"a URL must not contain a password; {_INSTEAD[scheme]}")
    if parts.fragment:
        raise ValueError("a target's URL must not contain '#'")
    return _bucket(parts.netloc, parts.path) if scheme == "s3" else _server(parts.netloc, parts.path)


_INSTEAD = {
    "s3": "name a `profile`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "sftp": "use an SSH key: `identity_file`, or the agent's",
}


def _bucket(bucket: str, path: str) -> str:
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket!r} is not a valid bucket name; write s3://BUCKET/PREFIX")
    prefix = path.strip("/")
    if prefix and (not _PREFIX.fullmatch(prefix) or len(prefix) > 256 or ".." in prefix.split("/")):
        raise ValueError(
            f"{prefix!r} is not a valid prefix; use lower-case letters, digits, '.', '_' and '-', joined by '/'"
        )
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"


def _server(netloc: str, path: str) -> str:
    if not _has_host(f"//{netloc}"):
        raise ValueError("an sftp:// URL needs a server: sftp://backup@nas.example.org/srv/drtool")
    if not path.strip("/") or ".." in path.split("/"):
        raise ValueError("an sftp:// URL needs the absolute path of a directory: sftp://nas.example.org/srv/drtool")
    return f"sftp://{netloc}{os.path.normpath('/' + path.strip('/'))}"


def _has_host(url: str) -> bool:
    parts = urlsplit(url)
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is invalid
        return False


def _pairs(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ValueError(f"'?{query}' is not KEY=VALUE, joined by '&'") from None


def _query(options: dict[str, str]) -> str:
    pairs = "&".join(f"{key}={quote(value, safe=':/~@')}" for key, value in sorted(options.items()))
    return f"?{pairs}" if pairs else ""


def _check_keys(scheme: str, given: dict[str, str]) -> None:
    known = (*_WHERE.get(scheme, ()), *_HOW.get(scheme, ()))
    for key, value in given.items():
        if key not in known:
            suits = f"use {', '.join(known)}" if known else "a directory has no options"
            raise ValueError(f"{key} is not an option of {scheme}:// targets; {suits}")
        if not value:
            raise ValueError(f"{key} is empty")


def _word(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _checked(key: str, value: str) -> str:
    if key == "path_style" and value not in ("true", "false"):
        raise ValueError(f"path_style must be true or false, not {value!r}")
    if key == "endpoint":
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not _has_host(value) or parts.query or parts.fragment:
            raise ValueError(f"endpoint {value!r} is not like https://s3.example.org")
        if parts.username is not None:
            raise ValueError(f"an endpoint must not contain a user name or a password; {_INSTEAD['s3']}")
        return value.rstrip("/")
    return value


def _file(name: str, directory: Path) -> str:
    return os.path.normpath(directory / name)
