"""The canonical path of a configuration, so that links and `..` do not give it two identities.

Invariants
    A link to a file counts as the file, unless the configuration has relative names. It is then a different configuration at
    each place.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from drtool.config.schema import Config

_HERE, _THERE = Path("/here"), Path("/there")


def one_spelling(path: Path, config: Config | None = None) -> Path:
    """Return the path of a configuration without links and `..`; without `config`, the file itself may be a link."""
    found = Path(os.path.realpath(path.parent)) / path.name
    if config is None or not found.is_symlink() or _depends_on_its_place(config):
        return found
    return Path(os.path.realpath(found))


def spellings(path: Path) -> tuple[Path, ...]:
    """Return the spellings under which a configuration that cannot be read may have been installed, the likeliest first."""
    return one_spelling(path), Path(os.path.realpath(path)), path.absolute()


def _depends_on_its_place(config: Config) -> bool:
    if any(
        target.place(_HERE) != target.place(_THERE) for targets in config.sites.values() for target in targets.values()
    ):
        return True
    return any(not name.startswith(("/", "~")) for name in _names(config))


def _names(config: Config) -> Iterator[str]:
    """Yield the names of files and the commands of a configuration; commands run in its directory."""
    yield from filter(None, (config.password_file, config.metrics_file, config.plans))
    if config.password_command:
        yield "password_command"
    for source in config.sources.values():
        yield from source.paths
        if source.stream is not None:
            yield "stream"
        yield from filter(
            None,
            (
                source.sqlite and source.sqlite.path,
                source.postgresql and source.postgresql.programs,
                source.mysql and source.mysql.defaults_file,
            ),
        )
        yield from source.system.paths if source.system is not None else ()
    for channel in config.notify.channels.values():
        if channel.command or channel.email is not None or channel.headers:
            yield "channel"
    hooks = config.hooks
    for field in hooks.__struct_fields__:
        for words in getattr(hooks, field) if field != "timeout" else ():
            if "/" in words[0] and "://" not in words[0]:
                yield words[0]
