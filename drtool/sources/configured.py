"""Creation of a source from its configuration. Directories and files need only the walk."""

import os
from pathlib import Path

from drtool.config.schema import MysqlConfig, SourceConfig
from drtool.errors import UsageError
from drtool.sources.databases import Access
from drtool.sources.port import Source


def captured_source(config: SourceConfig, directory: Path) -> Source | None:
    """Return the source, or None for `paths`. File names are relative to `directory`. Raises UsageError if it is invalid."""
    try:
        return _source(config, directory)
    except ValueError as error:
        raise UsageError(f"{config.kind}: {error}") from None


def _source(config: SourceConfig, directory: Path) -> Source | None:
    if config.stream is not None:
        from drtool.sources.stream import CommandStream

        stream = config.stream
        return CommandStream(stream.name, stream.command, allow_empty=stream.allow_empty, directory=directory)
    if config.sqlite is not None:
        from drtool.sources.sqlite import SqliteSource

        return SqliteSource(_path(directory, config.sqlite.path))
    if config.postgresql is not None:
        from drtool.sources.postgresql import PostgresqlSource

        server = config.postgresql
        return PostgresqlSource(
            server.dsn,
            databases=server.databases,
            run_as=server.run_as,
            programs=directory / server.programs if server.programs else None,
            count_rows=server.count_rows,
            lock_timeout_s=server.lock_timeout,
        )
    if config.mysql is not None:
        from drtool.sources.mysql import MysqlSource

        mysql = config.mysql
        return MysqlSource(
            mysql.dsn,
            databases=mysql.databases,
            defaults_file=directory / mysql.defaults_file if mysql.defaults_file else None,
            count_rows=mysql.count_rows,
            lock_timeout_s=mysql.lock_timeout,
        )
    if config.redis is not None:
        from drtool.sources.redis import RedisSource

        return RedisSource(config.redis.dsn)
    if config.system is not None:
        from drtool.sources.system import SystemSource

        return SystemSource()
    return None


def access_of(config: SourceConfig | None, directory: Path) -> Access:
    """Return how a database source reaches its server. File names are relative to `directory`."""
    server = None if config is None else config.postgresql or config.mysql
    if server is None:
        return Access()
    if isinstance(server, MysqlConfig):
        return Access(defaults_file=directory / server.defaults_file if server.defaults_file else None)
    return Access(run_as=server.run_as, programs=directory / server.programs if server.programs else None)


def walked_paths(config: SourceConfig, directory: Path) -> tuple[Path, ...]:
    """Return the directories and files that a source stores unchanged. Names are relative to `directory`."""
    if config.system is None:
        return tuple(_path(directory, path) for path in config.paths)
    from drtool.sources.system import walked

    return (*walked(), *(_path(directory, path) for path in config.system.paths))


def _path(directory: Path, name: str) -> Path:
    """Return a path that drtool.yaml names: below `directory`, and `~` or `~USER` is a home directory. Raises UsageError."""
    expanded = os.path.expanduser(name)
    if name.startswith("~") and expanded == name:
        raise UsageError(f"{name}: this host has no such user", hint=f"write ./{name} for a file of that name")
    return directory / expanded


def patterns(config: SourceConfig) -> tuple[str, ...]:
    """Return the patterns of excluded files."""
    return config.exclude if config.system is None else config.system.exclude
