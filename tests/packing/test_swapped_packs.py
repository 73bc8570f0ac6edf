"""A site that answers with other authentic bytes of the same repository must not be believed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import drtool

SIZE_BYTES = 120_000  # less than any cut: one chunk, a pack of its own in each run


@pytest.fixture
def run(tmp_path):
    environment = os.environ | {
        "DRTOOL_CONFIG": str(tmp_path / "drtool.yaml"),
        "DRTOOL_STATE_DIR": str(tmp_path / "state"),
        "DRTOOL_CACHE_DIR": str(tmp_path / "cache"),
        "DRTOOL_PASSWORD": "correct horse",
        "PYTHONPATH": str(Path(drtool.__file__).parents[1]),
    }

    def run_(*words):
        command = [sys.executable, "-m", "drtool", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run_


def data_packs(site):
    """The packs whose length is that of one incompressible chunk."""
    return [path for path in site.glob("packs/*/*") if path.stat().st_size > SIZE_BYTES]


def test_two_packs_of_equal_length_do_not_pass_for_one_another(run, tmp_path):
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    assert run("init", "--target", f"only={site}").returncode == 0
    for name in ("one", "two"):
        (home / name).write_bytes(os.urandom(SIZE_BYTES))
        assert run("backup", home).returncode == 0
    first, second = data_packs(site)
    assert first.stat().st_size == second.stat().st_size
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)

    restored = run("restore", "latest", "--to", tmp_path / "restored")

    assert restored.returncode == 3, restored.stderr
    assert not [path for path in (tmp_path / "restored").rglob("*") if path.is_file()]
