"""When a backup makes known what it has stored, so that a run which is killed loses little. Pure.

A note names the packs that are durable and waits for nothing. A checkpoint waits until everything taken on is durable, and the
workers look up its chunks from then on.
"""

CHECKPOINT_BYTES = 2 * 1024**3
CHECKPOINT_S = 600.0
CHECKPOINT_CHUNKS = 400_000
NOTE_S = 30.0
NOTE_SHARE = 0.05
"""In a long run notes become rarer: it repeats a twentieth of its time at most."""


class Checkpoints:
    """The times of one run's checkpoints and notes."""

    def __init__(self, now_s: float) -> None:
        self._began_s = self._checkpoint_s = self._note_s = now_s
        self._next_bytes, self._next_chunks = CHECKPOINT_BYTES, CHECKPOINT_CHUNKS

    def is_due(self, now_s: float, added_bytes: int, added_chunks: int) -> bool:
        """Whether a checkpoint is due."""
        stored_enough = added_bytes >= self._next_bytes or added_chunks >= self._next_chunks
        return stored_enough or now_s - self._checkpoint_s >= CHECKPOINT_S

    def begins_note(self, now_s: float) -> bool:
        """Whether a note is due; then it counts as made."""
        if now_s - self._note_s < max(NOTE_S, (now_s - self._began_s) * NOTE_SHARE):
            return False
        self._note_s = now_s
        return True

    def made(self, now_s: float, added_bytes: int, added_chunks: int) -> None:
        """A checkpoint is made now."""
        self._checkpoint_s = self._note_s = now_s
        self._next_bytes = added_bytes + CHECKPOINT_BYTES
        self._next_chunks = added_chunks + CHECKPOINT_CHUNKS
