"""docs/architecture.md, as far as a machine can hold us to it.

`lint-imports` checks the layers on every change; here we check that its contracts really bite, and what it cannot see.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from thoroughness import spread

from drtool.cli.core.registry import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "drtool"
MODULES = sorted(PACKAGE.rglob("*.py"))
IMPORT_CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

PURE = (
    "paxos",
    "ring",
    "trees",
    "manifest.state",
    "repository.placement",
    "operations.retention",
    "operations.survive.judging",
    "operations.doctor.judging",
    "operations.benchmarking.advice",
    "operations.verify.bound",
    "plans.evidence.history",
    "plans.evidence.proofs",
    "reports.plan_story",
    "plans.faults.guards",
    "plans.faults.victims",
    "plans.faults.windows",
    "plans.next",
)

VIOLATIONS = {
    "a lower layer imports a higher one": ("stores/stray.py", "import drtool.manifest\n", "Layers"),
    "siblings import each other": ("paxos/stray.py", "import drtool.ring\n", "Layers"),
    "a stray top-level module": ("utils.py", "", "Layers"),
    "consensus reads the clock": ("paxos/stray.py", "import time\n", "Pure modules"),
    "placement draws lots": ("ring/stray.py", "from random import random\n", "Pure modules"),
    "a tree reads a file": ("trees/stray.py", "import os.path\n", "Pure modules"),
    "the state machine writes a log": ("manifest/state.py", "\nimport logging\n", "Pure modules"),
    "an operation draws": ("operations/stray.py", "from rich.table import Table\n", "Typer and Rich"),
    "an operation draws a screen": ("operations/stray.py", "from textual.app import App\n", "Textual"),
    "what commands share imports a command": (
        "cli/core/text.py",
        "\nfrom drtool.cli.commands.stats import stats\n",
        "Layers of cli",
    ),
    "a command imports another": ("cli/commands/ls.py", "\nfrom drtool.cli.commands.find import find\n", "Commands"),
    "a store reads YAML": ("stores/stray.py", "from ruamel.yaml import YAML\n", "YAML"),
}


def judge_imports(place):
    """Copies the package to `place`; returns a function that runs import-linter there and names the broken contracts."""
    shutil.copytree(PACKAGE, place / "drtool", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    # the copy comes first on the path, so that it is what import-linter looks at
    words = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(place)}

    def broken():
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
        assert "Contracts" in done.stdout, done.stdout + done.stderr
        return [line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line]

    return broken


def test_imports_keep_the_contracts(tmp_path):
    assert judge_imports(tmp_path)() == []


@pytest.mark.parametrize("violation", spread(VIOLATIONS, 5))
def test_import_contracts_bite(violation, tmp_path):
    path, code, contract = VIOLATIONS[violation]
    broken = judge_imports(tmp_path)
    with (tmp_path / "drtool" / path).open("a") as module:
        module.write(code)
    assert [name for name in broken() if name.startswith(contract)]


def test_every_pure_module_is_under_contract():
    named = next(c for c in IMPORT_CONTRACTS if c["name"].startswith("Pure"))["source_modules"]
    there = [f"drtool.{name}" for name in PURE if _exists(name)]
    assert sorted(named) == sorted(there)


def _exists(name):
    place = PACKAGE / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def test_only_the_command_line_reads_the_environment():
    readers = [
        path.relative_to(PACKAGE)
        for path in MODULES
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text()) and path.parts[len(PACKAGE.parts)] != "cli"
    ]
    assert readers == []


def test_no_file_is_longer_than_a_reader_can_hold():
    assert [(p.name, n) for p in MODULES if (n := p.read_text().count("\n")) > 450] == []


def test_each_command_has_a_module_of_its_name():
    """The function `plan_run` of the command `plan run` is in commands/plan/run.py, and nothing else is beside the commands."""
    place = PACKAGE / "cli" / "commands"
    for path in COMMANDS:
        tree = ast.parse(place.joinpath(*path).with_suffix(".py").read_text())
        assert "_".join(path) in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, path
    names = {path[0] for path in COMMANDS}
    others = {each.stem for each in place.iterdir() if not each.name.startswith("_")} - names
    assert [each for each in sorted(others) if not any(each.startswith(f"{name}_") for name in names)] == []


def test_every_module_says_what_it_is():
    silent = [
        str(p.relative_to(PACKAGE))
        for p in MODULES
        if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_the_picture_of_the_house_names_every_room():
    picture = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {p.name for p in PACKAGE.iterdir() if not p.name.startswith("_") and p.name != "py.typed"}
    assert [
        room
        for room in sorted(rooms)
        if not re.search(rf"^  {re.escape(room.removesuffix('.py'))}(\.py|/)", picture, re.MULTILINE)
    ] == []


def test_what_cron_starts_is_light():
    """Importing the command line must not import what only some commands need."""
    heavy = ("boto3", "botocore", "asyncssh", "numpy", "psycopg", "asyncio")
    code = f"import drtool.cli.main, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
