"""The table of traps names existing tests, at least one for each trap."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (TESTS.parent / "docs/plan-traps.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| trap ")
]


def test_each_trap_has_a_test_that_exists():
    files = {path.name: path for path in TESTS.rglob("test_*.py")}
    assert len(ROWS) > 20
    for trap, answer, tests in ROWS:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, f"{trap}: no test"
        assert answer
        for file, name in named:
            assert file in files, f"{trap}: there is no {file}"
            tree = ast.parse(files[file].read_text())
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in names, f"{trap}: {file} has no {name}"
