"""The repository at three sites for these tests."""

from three_sites import founded, place, world

__all__ = ["founded", "place", "world"]
