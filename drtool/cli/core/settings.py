"""The settings of a run, resolved once: environment, configuration, directories. No module below `cli` reads these.

Invariants
    The lookup orders are those of docs/cli.md. A password is read once, when it is needed, and never from an argument.
    Nothing of a configuration is used before the file, and every file that it names, has passed `check_trusted`.
"""

import os
import pwd
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct

from drtool.cli.core.options import Options
from drtool.cli.core.passwords import ask_password, password_source
from drtool.cli.core.trust import check_config, check_named_files, trust_of
from drtool.config import Config, load_config
from drtool.config.identity import one_spelling
from drtool.config.trust import Trust
from drtool.config.urls import scheme_of

CONFIG_NAME = "drtool.yaml"


class Settings(Struct, frozen=True, kw_only=True):
    """The settings that a command needs."""

    config_path: Path | None
    """The path of the configuration, or None if there is none."""
    config: Config
    cache_dir: Path
    state_dir: Path
    data_dir: Path
    """The directory for the sites of the built-in default."""
    password: Callable[[], bytes]
    password_given: bool
    """Whether a password can be found without asking."""
    host: str
    user: str
    timezone: str
    workers: int
    directory: Path
    """The working directory."""
    trust: Trust
    """The users who may have written the files that the configuration names."""

    @property
    def config_name(self) -> str:
        """Return the path of the configuration in one spelling, or "" without a configuration."""
        return str(one_spelling(self.config_path, self.config)) if self.config_path is not None else ""


def resolve(
    options: Options,
    environ: Mapping[str, str],
    directory: Path,
    load: Callable[[Path], Config] = load_config,
    warn: Callable[[str], None] = lambda _: None,
) -> Settings:
    """Read the configuration, if there is one. Raise ConfigError. Errors of `load` pass through."""
    path = find_config(options, environ, directory)
    trust = trust_of(named=named_config(options, environ, directory) is not None)
    config = load(path) if path else Config()
    source = password_source(options, environ, config, path, warn)
    return Settings(
        config_path=path,
        config=config,
        cache_dir=_directory(environ, "DRTOOL_CACHE_DIR", "XDG_CACHE_HOME", ".cache"),
        state_dir=state_directory(environ),
        data_dir=_directory(environ, None, "XDG_DATA_HOME", ".local/share"),
        password=cache(source or ask_password),
        password_given=source is not None,
        host=os.uname().nodename,
        user=_user(environ),
        timezone=config.retention.timezone or host_timezone(environ),
        workers=worker_count(config),
        directory=directory,
        trust=trust,
    )


# Measured on a backup of many small files and of one large file: two pack buffers per process, arenas, the interpreter.
OWN_MEMORY_BYTES = 100 * 1024 * 1024
WORKER_MEMORY_BYTES = 60 * 1024 * 1024
FAR_WORKER_MEMORY_BYTES = WORKER_MEMORY_BYTES + 36 * 1024 * 1024
"""Across a network, more packs are in transit at once, and more is read ahead."""


def worker_count(config: Config) -> int:
    """Return the number of workers. `auto` is one per usable core, limited by the memory in `limits.memory`."""
    if config.limits.workers != "auto":
        wanted = config.limits.workers
    else:
        wanted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if config.limits.memory is None:
        return wanted
    far = any(scheme_of(target.url) != "file" for targets in config.sites.values() for target in targets.values())
    each_bytes = FAR_WORKER_MEMORY_BYTES if far else WORKER_MEMORY_BYTES
    return max(1, min(wanted, (config.limits.memory - OWN_MEMORY_BYTES) // each_bytes))


def find_config(options: Options, environ: Mapping[str, str], directory: Path) -> Path | None:
    """Return the configuration file. One that is named explicitly need not exist, because `init` writes it there."""
    named = named_config(options, environ, directory)
    if named is not None:
        return named if named.exists() else None
    places = (
        directory / CONFIG_NAME,
        _base(environ, "XDG_CONFIG_HOME", ".config") / "drtool" / CONFIG_NAME,
        Path("/etc/drtool") / CONFIG_NAME,
    )
    return next((place for place in places if os.path.lexists(place)), None)


def load_trusted(options: Options, environ: Mapping[str, str], directory: Path) -> Callable[[Path], Config]:
    """Return a reader of the configuration that refuses files that an untrusted user may have written."""
    trust = trust_of(named=named_config(options, environ, directory) is not None)

    def load(path: Path) -> Config:
        check_config(path, trust)
        config = load_config(path)
        check_named_files(config, path, directory, trust)
        return config

    return load


def named_config(options: Options, environ: Mapping[str, str], directory: Path) -> Path | None:
    """Return the file that `--config` or `$DRTOOL_CONFIG` names."""
    name = options.config or environ.get("DRTOOL_CONFIG")
    return directory / name if name else None


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return the state directory. It must be found without any configuration."""
    if environ.get("DRTOOL_STATE_DIR"):
        return Path(environ["DRTOOL_STATE_DIR"]).absolute()
    if os.getuid() == 0:
        return Path("/var/lib/drtool")
    return _base(environ, "XDG_STATE_HOME", ".local/state") / "drtool"


def _directory(environ: Mapping[str, str], own: str | None, base: str, default: str) -> Path:
    if own and environ.get(own):
        return Path(environ[own]).absolute()
    return _base(environ, base, default) / "drtool"


def _base(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Return an XDG base directory. The specification says to ignore a relative one."""
    value = environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path(environ.get("HOME") or _home()) / default


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user without an entry
        return "/"


def _user(environ: Mapping[str, str]) -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return environ.get("USER") or str(os.getuid())


def host_timezone(environ: Mapping[str, str]) -> str:
    """Return this host's IANA time zone, which `init` records for retention."""
    given = environ.get("TZ", "").strip(":")
    if given and not given.startswith("/"):
        return given
    _, found, name = (given or os.path.realpath("/etc/localtime")).partition("/zoneinfo/")
    return name if found else "UTC"
