"""The demo is the first thing that a stranger runs: it must hold on every change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.thorough
def test_the_demo_holds_what_it_tells(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, DEMO, "--small"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every claim above was checked" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


def test_the_demo_notices_every_kind_of_difference(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DEMO.parent)
    import demo

    source, copy = tmp_path / "source", tmp_path / "copy"
    demo.make_awkward_files(source)
    subprocess.run(["cp", "-a", source, copy], check=True)
    assert list(demo.differences_between(source, copy)) == []

    (copy / "extra").touch()
    (copy / "new\nline").unlink()
    (copy / "empty").chmod(0o600)
    (copy / "to nowhere").unlink()
    (copy / "to nowhere").symlink_to("elsewhere")
    (copy / "a pipe").unlink()
    (copy / "a pipe").touch()
    os.truncate(copy / "sparse", 1)
    (copy / "two names").unlink()
    (copy / "two names").write_bytes((copy / "two names, the other").read_bytes())
    os.chown(copy / "set-group-id", os.getuid(), os.getgid())
    os.utime(copy / "labelled", (0, 0))
    seen = set(demo.differences_between(source, copy))
    assert {
        "missing: new\nline",
        "not in the source: extra",
        "st_mode of empty",
        "link target of to nowhere",
        "type of a pipe",
        "content of sparse",
        "st_mtime_ns of labelled",
        "hard links",
    } <= seen
