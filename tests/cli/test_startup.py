"""Cron starts drtool every few minutes, so a command imports only what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import drtool

PROGRAM = """
import sys
from drtool.cli.main import run
code = run(sys.argv[1:])
print(*sorted(name for name in sys.modules if "." not in name or name.startswith(("drtool.", "ruamel."))), file=sys.stderr)
sys.exit(code)
"""
HEAVY = {
    "boto3",
    "botocore",
    "numpy",
    "rich",
    "asyncssh",
    "asyncio",
    "multiprocessing",
    "http",
    "ssl",
    "getpass",
}


def imported(*words: str, directory) -> tuple[int, set[str]]:
    environ = {**os.environ, "PYTHONPATH": str(Path(drtool.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, set(done.stderr.splitlines()[-1].split())


def test_the_version_imports_next_to_nothing(tmp_path):
    code, modules = imported("--version", directory=tmp_path)
    assert code == 0
    assert not modules & (HEAVY | {"typer", "msgspec", "ruamel", "typing", "re", "pathlib", "cryptography"})


@pytest.mark.parametrize(
    "words", [("snapshots", "--json"), ("backup", "--json"), ("status", "-q"), ("plan", "run", "x", "--json")]
)
def test_a_command_imports_only_what_it_needs(words, tmp_path):
    code, modules = imported(*words, directory=tmp_path)
    assert code == 2
    assert not modules & HEAVY
    assert not {"drtool.crypto", "ruamel"} & modules or words[0] != "plan"


def test_a_configuration_imports_yaml_and_nothing_heavier(tmp_path):
    (tmp_path / "drtool.yaml").write_text(f"sites: {{a: {{main: {{url: {tmp_path}/a}}}}}}\n")
    (tmp_path / "password").write_text("secret")
    code, modules = imported("snapshots", "--json", "--password-file", "password", directory=tmp_path)
    assert code == 10
    assert "ruamel" in modules
    assert not modules & HEAVY
