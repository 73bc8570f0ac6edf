"""The times at which a backup records what it has stored, so that a killed run loses little. Pure.

A note names the durable packs and waits for nothing. A checkpoint waits until everything accepted is durable, and the
workers look up its chunks from then on.
"""

CHECKPOINT_BYTES = 2 * 1024**3
CHECKPOINT_S = 600.0
CHECKPOINT_CHUNKS = 400_000
NOTE_S = 30.0
NOTE_SHARE = 0.05
"""In a long run notes become rarer, so that they repeat at most a twentieth of its time."""


class Checkpoints:
    """The times of one run's checkpoints and notes."""

    def __init__(self, now_s: float) -> None:
        self._began_s = self._checkpoint_s = self._note_s = now_s
        self._next_bytes, self._next_chunks = CHECKPOINT_BYTES, CHECKPOINT_CHUNKS

    def is_due(self, now_s: float, added_bytes: int, added_chunks: int) -> bool:
        """Return whether a checkpoint is due."""
        stored_enough = added_bytes >= self._next_bytes or added_chunks >= self._next_chunks
        return stored_enough or now_s - self._checkpoint_s >= CHECKPOINT_S

    def begins_note(self, now_s: float) -> bool:
        """Return whether a note is due. If so, it counts as made."""
        if now_s - self._note_s < max(NOTE_S, (now_s - self._began_s) * NOTE_SHARE):
            return False
        self._note_s = now_s
        return True

    def made(self, now_s: float, added_bytes: int, added_chunks: int) -> None:
        """Record that a checkpoint is made now."""
        self._checkpoint_s = self._note_s = now_s
        self._next_bytes = added_bytes + CHECKPOINT_BYTES
        self._next_chunks = added_chunks + CHECKPOINT_CHUNKS
