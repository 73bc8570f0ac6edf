"""drtool.yaml as typed, frozen values: every key of the contract, with all defaults.

Invariants
    A key that is read is honoured. One that this version cannot honour yet is declared as `Later` and refused.
    Nothing here reads the environment. A relative path is below the directory of the file that names it.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from drtool.config.document import LATER, convert, read_as, read_document
from drtool.config.life import Hooks, Objective, Schedule, seconds
from drtool.config.units import Span, keep_count, rate_bytes_s, share, size_bytes, span
from drtool.config.urls import Access, check_url, read_url
from drtool.errors import UsageError

Later = Annotated[Any, LATER]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Vote: TypeAlias = Literal["auto", "true", "false", "only"]
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")


def vote_word(value: object) -> object:
    """Read `vote: auto|true|false|only`, where true and false are YAML booleans. Raises ValueError."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str) or value not in {"auto", "only"}:
        raise ValueError("expected auto, true, false or only")
    return value


class TargetConfig(Struct, frozen=True, kw_only=True):
    """One target, and how this host accesses it."""

    url: Annotated[str, read_as(check_url)]
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    keys: bool = True
    """Whether key slots may be stored there."""
    vote: Annotated[Vote, read_as(vote_word)] = "auto"
    """Whether its site may vote through it. auto: if the file system is known to be safe. `only`: vote, but store nothing.

    Read by `init`. Afterwards the manifest decides.
    """
    max_bytes: Later = None
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    path_style: bool | None = None
    storage_class: str | None = None
    identity_file: str | None = None
    known_hosts: str | None = None

    def __post_init__(self) -> None:
        self.place(Path("/"))

    def place(self, directory: Path) -> tuple[str, Access]:
        """Return its URL, and this host's access. File names are relative to `directory`. Raises ValueError."""
        return read_url(
            self.url,
            directory,
            endpoint=self.endpoint,
            region=self.region,
            profile=self.profile,
            path_style=self.path_style,
            storage_class=self.storage_class,
            identity_file=self.identity_file,
            known_hosts=self.known_hosts,
        )


class Redundancy(Struct, frozen=True, kw_only=True):
    """The redundancy of a new repository. Read only by `init`; afterwards the manifest decides."""

    copies: Annotated[int, Meta(ge=1, le=16)] | None = None
    minimum: Annotated[int, Meta(ge=1, le=16)] = 1
    data: Later = None
    parity: Later = None

    def __post_init__(self) -> None:
        if self.copies is not None and self.minimum > self.copies:
            raise ValueError(f"minimum {self.minimum} is more than copies {self.copies}")


class StreamConfig(Struct, frozen=True, kw_only=True):
    """A command with output that is stored as one file."""

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    """A list of words, run without a shell."""
    name: Annotated[str, Meta(min_length=1)] = "stdin"
    """The file's name in the snapshot. It may contain slashes."""
    allow_empty: bool = False
    """Whether empty output of a successful command may be stored. Otherwise it is a failure."""


class SqliteConfig(Struct, frozen=True, kw_only=True):
    """A SQLite database, copied by SQLite's backup API while it is in use."""

    path: Annotated[str, Meta(min_length=1)]


class PostgresqlConfig(Struct, frozen=True, kw_only=True):
    """A PostgreSQL server: all its databases and roles."""

    dsn: str = ""
    """A DSN for libpq: keywords or a URI. Empty: the environment and libpq's defaults apply."""
    databases: Annotated[tuple[str, ...], Meta(min_length=1)] = ()
    """Only these databases."""
    run_as: str | None = None
    """The local user for the client programs, for peer authentication. drtool itself must run as root."""
    programs: str | None = None
    """The directory of the client programs, if PATH has no suitable version."""
    count_rows: bool = True
    """Counting reads every table once more."""
    lock_timeout: Annotated[int, read_as(seconds)] = 600
    """How long to wait for a locked table before it is left out and reported."""


class MysqlConfig(Struct, frozen=True, kw_only=True):
    """A MySQL or MariaDB server: all its databases and users."""

    dsn: str = ""
    """mysql://USER@HOST/ or mysql://USER@/?socket=PATH. Empty: the clients' own option files apply."""
    databases: Annotated[tuple[str, ...], Meta(min_length=1)] = ()
    """Only these databases."""
    defaults_file: str | None = None
    """An option file of the client programs, with the password."""
    count_rows: bool = True
    """Counting reads every table twice more."""
    lock_timeout: Annotated[int, read_as(seconds)] = 600
    """How long to wait for a locked table before it is left out and reported."""


class RedisConfig(Struct, frozen=True, kw_only=True):
    """A Redis server: all its data."""

    dsn: str = ""
    """redis://HOST:PORT, rediss://… or unix:///PATH. Empty: redis-cli's own default."""


class SystemConfig(Struct, frozen=True, kw_only=True):
    """This host's system: packages, units, users, settings, with `/etc` and other files that a rebuild needs."""

    paths: tuple[str, ...] = ()
    """Additional directories and files."""
    exclude: tuple[str, ...] = ()
    """gitignore patterns for all files of the source."""


class SourceConfig(Struct, frozen=True, kw_only=True):
    """The contents of a snapshot: directories and files of this host, or one of the other kinds."""

    paths: Annotated[tuple[str, ...], Meta(min_length=1)] = ()
    exclude: tuple[str, ...] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    exclude_larger_than: Annotated[int | None, read_as(lambda text: text if text is None else size_bytes(text))] = None
    ignore_files: bool = False
    """Whether `.drtoolignore` files exclude files as well."""
    ignore_inode: bool = False
    ignore_ctime: bool = False
    max_shrink: Annotated[float | None, read_as(share)] = 0.9
    """The share of rows, files or bytes that may be gone since the last snapshot. `off`: any."""
    stream: StreamConfig | None = None
    postgresql: PostgresqlConfig | None = None
    mysql: MysqlConfig | None = None
    sqlite: SqliteConfig | None = None
    redis: RedisConfig | None = None
    system: SystemConfig | None = None

    def __post_init__(self) -> None:
        kinds = [kind for kind in _KINDS if getattr(self, kind) not in (None, ())]
        if not kinds:
            raise ValueError(f"the key 'paths' is missing, or another kind of source: {', '.join(_KINDS[1:])}")
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)}: a source has one kind; define a source for each")
        for_paths = (
            self.exclude,
            self.exclude_caches,
            self.one_file_system,
            self.ignore_files,
            self.ignore_inode,
            self.ignore_ctime,
        )
        if kinds != ["paths"] and (any(for_paths) or self.exclude_larger_than is not None):
            raise ValueError(f"exclude…, one_file_system and ignore_… are for paths, not for {kinds[0]}")

    @property
    def kind(self) -> str:
        """`paths`, or the key of another kind of source."""
        return next(kind for kind in _KINDS if getattr(self, kind) not in (None, ()))

    @property
    def named_paths(self) -> tuple[str, ...]:
        """The directories and files that the configuration names."""
        return self.paths if self.system is None else self.system.paths


_KINDS = ("paths", "stream", "sqlite", "postgresql", "mysql", "redis", "system")


def words(value: object) -> object:
    """Read a list of words. A single word needs no brackets. Raises ValueError."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(word, str) and word for word in listed):
        raise ValueError("expected a word, or a list of words")
    return listed


def zone_name(value: object) -> object:
    """Check the name of a time zone: `Europe/Berlin`, `UTC`. Raises ValueError."""
    if not isinstance(value, str) or not _ZONE.fullmatch(value):
        raise ValueError("expected the name of a time zone, such as Europe/Berlin or UTC")
    return value


Count = Annotated[int, read_as(keep_count)]
Within = Annotated[Span, read_as(span)]


class Retention(Struct, frozen=True, kw_only=True):
    """The default rules of `forget`. `timezone` is read only by `init`; afterwards the manifest decides."""

    keep_last: Count = 0
    keep_hourly: Count = 0
    keep_daily: Count = 0
    keep_weekly: Count = 0
    keep_monthly: Count = 0
    keep_yearly: Count = 0
    keep_within: Within = Span()
    keep_within_hourly: Within = Span()
    keep_within_daily: Within = Span()
    keep_within_weekly: Within = Span()
    keep_within_monthly: Within = Span()
    keep_within_yearly: Within = Span()
    keep_tag: Annotated[tuple[str, ...], read_as(words)] = ()
    timezone: Annotated[str | None, read_as(zone_name)] = None


class Limits(Struct, frozen=True, kw_only=True):
    memory: Annotated[int | None, read_as(lambda text: text if text is None else size_bytes(text))] = None
    workers: Annotated[int, Meta(ge=1, le=256)] | Literal["auto"] = "auto"
    upload: Annotated[int | None, read_as(lambda text: text if text is None else rate_bytes_s(text))] = None
    """Bytes per second to each target, for all processes of this command together."""
    patience: Annotated[int, read_as(seconds)] = 900
    """Seconds to wait for a server that stopped answering, if no other target can serve."""
    download: Annotated[int | None, read_as(lambda text: text if text is None else rate_bytes_s(text))] = None
    owed: Annotated[int | None, read_as(lambda text: None if text in (None, "auto") else seconds(text))] = None
    """Seconds for which a backup copies what targets are owed, after its snapshots are committed. None, `auto`: half of the time
    that it took, and 30 s at least."""


class HeaderFile(Struct, frozen=True, kw_only=True):
    """A secret value of a header: one line of a file that only its owner may read."""

    file: Annotated[str, Meta(min_length=1)]


class EmailConfig(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A mail to each address of `to`, sent through an SMTP server."""

    to: Annotated[tuple[str, ...], Meta(min_length=1), read_as(words)]
    sender: Annotated[str, Meta(min_length=1)]
    server: Annotated[str, Meta(pattern="^smtps?://[^/@]+$")] = "smtp://localhost:25"
    """smtps: TLS from the start. smtp: TLS if the server offers it."""
    user: str | None = None
    password_file: str | None = None
    """One line of a file that only its owner may read."""

    def __post_init__(self) -> None:
        if any("\n" in text or "\r" in text for text in (*self.to, self.sender)):
            raise ValueError("an address must not contain a line break")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file must be given together")


class ChannelConfig(Struct, frozen=True, kw_only=True):
    """A way to notify people. Exactly one of: a program that reads JSON, a URL that receives it, or mail."""

    command: Annotated[tuple[str, ...], read_as(words)] = ()
    webhook: Annotated[str, Meta(pattern="^https?://")] | None = None
    headers: dict[str, str | HeaderFile] = {}
    """The headers of the webhook."""
    email: EmailConfig | None = None

    def __post_init__(self) -> None:
        if [bool(self.command), self.webhook is not None, self.email is not None].count(True) != 1:
            raise ValueError("a channel has exactly one of command, webhook and email")
        if self.headers and self.webhook is None:
            raise ValueError("only a webhook has headers")


class NotifyConfig(Struct, frozen=True, kw_only=True):
    channels: dict[str, ChannelConfig] = {}


class Config(Struct, frozen=True, kw_only=True):
    """drtool.yaml."""

    repository: Annotated[str, Meta(min_length=1, max_length=200)] = "drtool"
    """A label. The repository's id is in its manifest."""
    password_file: str | None = None
    password_command: Annotated[tuple[str, ...], Meta(min_length=1)] | str | None = None
    sites: dict[str, dict[str, TargetConfig]] = {}
    redundancy: Redundancy = Redundancy()
    sources: dict[str, SourceConfig] = {}
    limits: Limits = Limits()
    retention: Retention = Retention()
    objectives: dict[str, Objective] = {}
    """The requirements for each source, by its name."""
    hooks: Hooks = Hooks()
    schedule: Schedule | None = None
    """None: the defaults of `schedule install`."""
    metrics_file: str | None = None
    """A file for node_exporter's textfile collector, with a name that ends in `.prom`."""
    plans: str | None = None
    """The directory of plans."""
    notify: NotifyConfig = NotifyConfig()
    """The channels through which plans and hooks notify people."""


def load_config(path: Path) -> Config:
    """Read and check drtool.yaml. Raises ConfigError with file, line, column and the nearest known key."""
    document = read_document(path)
    config = convert(document, Config)
    names: list[tuple[tuple[str, ...], str]] = [(("sites", site), site) for site in config.sites]
    names += [(("sites", site, name), name) for site, targets in config.sites.items() for name in targets]
    names += [(("sources", source), source) for source in config.sources]
    for source in config.objectives:
        if source not in config.sources:
            raise document.error(("objectives", source), f"no source {source!r} is configured")
    for channel in sorted(config.hooks.channels() - set(config.notify.channels)):
        raise document.error(("hooks",), f"there is no channel {channel!r} under `notify: channels:`")
    for place, name in names:
        if not _NAME.fullmatch(name):
            raise document.error(
                place, f"{name!r} is not a valid name; use letters, digits, '.', '_' and '-', at most 64"
            )
    return config


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name a site, a target or a source. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name for a {what}; use letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def place_at(word: str, directory: Path) -> tuple[str, Access]:
    """Return the URL and access of a place given on the command line. Raises UsageError."""
    try:
        return read_url(word, directory)
    except ValueError as error:
        raise UsageError(f"{word!r}: {error}") from None
