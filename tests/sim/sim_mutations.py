"""The protocol, broken on purpose: each way must be caught by the simulator, or the simulator proves nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

MUTATIONS: dict[str, Callable[[], AbstractContextManager[object]]] = {}
