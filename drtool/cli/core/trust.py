"""Trust in the files that direct this process: the configuration, and the files that it names."""

import os
import shlex
from pathlib import Path

from drtool.config import Config
from drtool.config.named import named_files
from drtool.config.trust import Trust, check_trusted
from drtool.errors import ConfigError

_NAMING = "drtool --config FILE …"
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_EVERY_UID = "4294967295"


def check_config(path: Path, trust: Trust) -> None:
    """Raise ConfigError unless `path` may be read as the configuration."""
    if not trust.named and not path.is_file():
        raise ConfigError(
            f"{path} is {_kind_of(path)}, not a file", hint=f"remove it, or name a configuration: {_NAMING}"
        )
    if trust.named and path.is_fifo() and not str(path).startswith(_DESCRIPTORS):
        raise ConfigError(f"{path} is a FIFO, not a file", hint="name a file, or pass a pipe: --config <(COMMAND)")
    try:
        check_trusted(path, "configuration", trust)
    except ConfigError as error:
        error.hint = f"{error.hint}, or to use it as it is: {_NAMING.replace('FILE', shlex.quote(str(path)))}"
        raise


def check_named_files(config: Config, path: Path, directory: Path, trust: Trust) -> None:
    """Raise ConfigError if an untrusted user could have written a file that the configuration at `path` names."""
    for role, file in named_files(config, path.parent, directory):
        check_trusted(file, role, trust)


def trust_of(*, named: bool) -> Trust:
    """Return the users whose files are trusted.

    The user behind `sudo` is not among them, because sudo may allow a single command.
    """
    return Trust(uids=frozenset({0, os.geteuid()}), named=named, unmapped_uid=_unmapped_uid())


def _unmapped_uid() -> int | None:
    """Return the owner that stands for all unmapped ones in a user namespace, as in rootless containers. None elsewhere."""
    try:
        if Path("/proc/self/uid_map").read_text().split() == ["0", "0", _EVERY_UID]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):  # not Linux, or no /proc
        return None


def _kind_of(path: Path) -> str:
    if not path.exists():
        return "a link with a missing target"
    return "a directory" if path.is_dir() else "a FIFO or a device"
