"""A source captured into memory, without a repository: the contents of its files, its warnings, and its problems."""

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from drtool.sources.children import ProgramFailed
from drtool.sources.filesystem import Problem
from drtool.sources.inventory import NAME, Inventory, read_inventory
from drtool.sources.port import Around, Source, VirtualFile


class Captured(NamedTuple):
    files: dict[str, bytes]
    warnings: list[str]
    problems: list[Problem]

    @property
    def errors(self) -> list[str]:
        return [problem.message for problem in self.problems]

    @property
    def inventory(self) -> Inventory:
        return read_inventory(next(text for path, text in self.files.items() if path.endswith(f"/{NAME}")))

    def put(self, directory: Path) -> Path:
        """Write the files below a directory, as a restore does."""
        for path, text in self.files.items():
            place = directory / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text)
        return directory


def captured(
    source: Source, environ: Mapping[str, str] = os.environ, state_dir: Path = Path("/nonexistent")
) -> Captured:
    """Capture a source. Raises its errors."""
    found = Captured({}, [], [])
    around = Around(state_dir=state_dir, environ=environ, warn=found.warnings.append, problem=found.problems.append)
    with closing(source.files(around)) as files:
        for file in files:
            _take(file, found)
    return found


def _take(file: VirtualFile, found: Captured) -> None:
    text, room = bytearray(), memoryview(bytearray(1 << 20))
    try:
        with file.opened() as content:
            while (got := content.readinto(room)) != 0:
                text += room[: got or 0]
    except ProgramFailed as error:
        if file.failed is None:
            raise
        file.failed(error)
        return
    found.files[file.path.decode()] = bytes(text)
