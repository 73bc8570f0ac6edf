"""The repository at three sites that tests of sources back up into."""

from three_sites import founded, place, world

__all__ = ["founded", "place", "world"]
