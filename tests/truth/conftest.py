"""The oracle reads packs and segments with the second reader of tests/golden."""

import sys
from pathlib import Path

from three_sites import place  # noqa: F401 - a fixture

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
