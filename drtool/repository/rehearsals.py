"""Hints that this host keeps about the requests of the last opening of each target, so that the next can send all at
once.

Invariants
    Deleting them, or damaging them, costs only time: names are checked before they are requested.
"""

from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from drtool.repository.cache import write_atomically
from drtool.stores.names import is_object_name
from drtool.stores.rehearsal import QUESTIONS_MAX, Question

_BYTES_MAX = 64 * 1024


class Rehearsals:
    """A directory with a file for each place. `None`: nothing is recorded."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def of(self, url: str) -> list[Question]:
        """Return the expected requests, in order."""
        if self._directory is None:
            return []
        try:
            text = self._file(url).read_bytes()[:_BYTES_MAX]
            questions = msgspec.json.decode(text, type=list[Question])
        except (OSError, msgspec.MsgspecError):
            return []
        return [question for question in questions if _sensible(question)][:QUESTIONS_MAX]

    def keep(self, url: str, questions: list[Question]) -> None:
        if self._directory is not None and questions != self.of(url):
            with suppress(OSError):  # a full or read-only cache costs time, never a backup
                write_atomically(self._file(url), msgspec.json.encode(questions))

    def _file(self, url: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{blake2b(url.encode(), digest_size=16).hexdigest()}.json"


def _sensible(question: Question) -> bool:
    name = question.name.rstrip("/")
    return not name.startswith("packs") and is_object_name(name) and question.start >= 0 and (question.length or 0) >= 0


NOTHING_REMEMBERED = Rehearsals(None)
