"""A file system may hold times that the format cannot. A backup reports this and continues."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from command_shell import shell_in

YEAR_3000_NS = 32_503_680_000 * 10**9


@pytest.fixture
def far():
    """A directory on a file system that holds the year 3000."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with TemporaryDirectory(dir=place) as name:
        path = Path(name)
        (path / "probe").touch()
        os.utime(path / "probe", ns=(YEAR_3000_NS, YEAR_3000_NS))
        if (path / "probe").stat().st_mtime_ns != YEAR_3000_NS:
            pytest.skip("no file system here holds the year 3000")
        yield path


def test_files_from_the_far_future_are_backed_up(far, tmp_path):
    shell = shell_in(tmp_path)
    (far / "probe").write_bytes(b"text")
    (far / "large").write_bytes(bytes(5 * 1024 * 1024))
    (far / "link").symlink_to("nowhere")
    for name in ("probe", "large", "link"):
        os.utime(far / name, ns=(YEAR_3000_NS, YEAR_3000_NS), follow_symlinks=False)
    assert shell("init", "--target", f"only={tmp_path / 'site'}").code == 0
    for _ in range(2):
        backed_up = shell("backup", str(far))
        assert backed_up.code == 0, backed_up.err
    shell("restore", "latest", "--to", str(tmp_path / "restored"))
    restored = {path.name: path for path in (tmp_path / "restored").rglob("*")}
    assert restored["probe"].read_bytes() == b"text"
    assert restored["large"].read_bytes() == bytes(5 * 1024 * 1024)
    assert restored["link"].is_symlink()
