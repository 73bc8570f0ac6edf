"""The usable part of a faulty configuration, only for commands that report the faults.

Invariants
    Any content gives one ConfigError with all faults. The usable part means the same as a file without the faulty parts.
"""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from drtool.config.document import convert, read_document
from drtool.config.schema import Config, load_config
from drtool.config.yaml import Parsed
from drtool.errors import ConfigError

_BY_NAME = {"sites": 2, "sources": 1}
"""Keys with independent entries, and the number of levels of entries."""


def salvage(path: Path) -> tuple[Config, ConfigError | None]:
    """Return the configuration, and its faults."""
    try:
        return load_config(path), None
    except ConfigError as error:
        fault = error
    try:
        document = read_document(path)
    except ConfigError:
        return Config(), fault
    config = Config()
    for key, value in (document.value if isinstance(document.value, dict) else {}).items():
        kept = _kept(document.file, (key,), value, _BY_NAME.get(key, 0))
        read = _read(document.file, {key: kept})
        if read is not None:
            config = replace(config, **{key: getattr(read, key)})
    return config, fault


def _kept(file: str, path: tuple[str, ...], value: Any, levels: int) -> Any:  # noqa: ANN401 - any YAML value
    """Return `value` without the faulty entries."""
    if levels == 0 or not isinstance(value, dict):
        return value
    found = {name: _kept(file, (*path, name), entry, levels - 1) for name, entry in value.items()}
    return {name: entry for name, entry in found.items() if _read(file, _wrapped((*path, name), entry)) is not None}


def _wrapped(path: tuple[str, ...], value: Any) -> Any:  # noqa: ANN401 - as above
    for name in reversed(path):
        value = {name: value}
    return value


def _read(file: str, value: Any) -> Config | None:  # noqa: ANN401 - as above
    parsed = Parsed(file)
    parsed.value = value
    try:
        return convert(parsed, Config)
    except ConfigError:
        return None
