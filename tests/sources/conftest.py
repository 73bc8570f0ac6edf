"""The repository at three sites for the tests of sources."""

from three_sites import founded, place, world

__all__ = ["founded", "place", "world"]
