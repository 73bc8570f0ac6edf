"""The repository at three sites that the tests here work on."""

from three_sites import founded, place, world

__all__ = ["founded", "place", "world"]
