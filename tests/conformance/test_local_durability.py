"""The order of writes to a directory: bytes are durable before they have a name, names before they are acknowledged.

It is observed at the functions of `os`, and in the system calls of another process where strace is permitted.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drtool.stores import LocalStore

WRITER = """
from pathlib import Path
import sys
from drtool.stores import LocalStore
store = LocalStore.open(Path(sys.argv[1]))
store.put("packs/ab/abcd", b"x" * 5000)
store.put_if_absent("manifest/acc/v-1", b"y" * 5000)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    LocalStore.create(tmp_path / "site").close()
    return tmp_path / "site"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the changes of the file system in order: mkdir, write, fsync of a file or a directory, rename, link, unlink."""
    seen: list[str] = []

    def watch(name: str, describe: Callable[..., str]) -> None:
        real = getattr(os, name)

        def watched(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            seen.append(describe(*args))
            return result

        monkeypatch.setattr(os, name, watched)

    watch("fsync", lambda fd: "fsync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
    for name in ("write", "rename", "link", "mkdir", "unlink"):
        watch(name, lambda *args, name=name: name)
    return seen


def test_a_put_syncs_the_file_then_names_it_then_syncs_the_directory(root: Path, steps: list[str]) -> None:
    LocalStore.open(root).put("x", b"1")
    assert steps == ["write", "fsync file", "rename", "fsync directory"]


def test_new_parents_are_durable_before_their_contents(root: Path, steps: list[str]) -> None:
    store = LocalStore.open(root)
    store.put("packs/ab/abcd", b"1")
    made = ["mkdir", "fsync directory"] * 2
    assert steps == [*made, "write", "fsync file", "rename", "fsync directory"]
    steps.clear()
    store.put("packs/ab/abce", b"1")
    assert steps == ["write", "fsync file", "rename", "fsync directory"]


def test_a_directory_made_by_another_run_is_synced_too(root: Path, steps: list[str]) -> None:
    (root / "packs").mkdir()
    steps.clear()
    LocalStore.open(root).put("packs/x", b"1")
    assert steps == ["fsync directory", "write", "fsync file", "rename", "fsync directory"]


def test_a_record_is_linked_after_its_bytes_are_safe(root: Path, steps: list[str]) -> None:
    store = LocalStore.open(root)
    assert store.put_if_absent("v-1", b"1")
    assert steps == ["write", "fsync file", "link", "unlink", "fsync directory"]
    steps.clear()
    assert not store.put_if_absent("v-1", b"2")
    assert steps == ["write", "fsync file", "unlink", "fsync directory"]


def test_a_record_that_was_read_is_durable(root: Path, steps: list[str]) -> None:
    (root / "v-1").write_bytes(b"1")
    steps.clear()
    assert LocalStore.open(root).read_tagged("v-1") is not None
    assert steps == ["fsync directory"]


def test_a_root_and_its_parents_are_made_durably(tmp_path: Path, steps: list[str]) -> None:
    LocalStore.create(tmp_path / "a" / "b").close()
    assert steps == ["mkdir", "fsync directory"] * 2
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_the_kernel_sees_the_same_order(root: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
    command = ["strace", "-y", "-o", log, "-e", calls, sys.executable, "-c", WRITER, root]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"this machine does not let strace look: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    assert kernel_steps(log.read_text(), root) == [
        "fsync .", "fsync packs", "fsync packs/ab/.tmp", "rename", "fsync packs/ab",
        "fsync .", "fsync manifest", "fsync manifest/acc/.tmp", "link", "unlink", "fsync manifest/acc",
    ]  # fmt: skip


def kernel_steps(trace: str, root: Path) -> list[str]:
    steps = []
    for line in trace.splitlines():
        call = re.match(r"([a-z]+?)(?:at2?)?\((?:\d+<([^>]*)>)?", line)
        if call is None or str(root) not in line:
            continue
        if call[1] == "fsync":
            relative = os.path.relpath(call[2], root)
            steps.append("fsync " + re.sub(r"\.tmp-\w+", ".tmp", relative))
        else:
            steps.append(call[1])
    return steps
