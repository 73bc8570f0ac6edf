"""The Spin models hold, and each broken variant of them fails: `make model`."""

import os
import sys
from pathlib import Path

import pytest
from thoroughness import spread

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

import spin_check as model


@pytest.mark.parametrize("check", spread(model.CHECKS, 5), ids=lambda check: f"{check.model}: {check.name}")
def test_a_model(check):
    missing = model.missing_programs()
    if missing:
        assert not os.environ.get("CI"), f"{missing} should be here"
        pytest.skip(f"needs {' and '.join(missing)}")
    verdict = model.verify(check)
    assert verdict.failed is not check.holds
    assert verdict.states > 10
