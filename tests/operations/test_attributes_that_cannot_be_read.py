"""One attribute that cannot be read: everything else is captured, and the attribute is named."""

import errno
import io
import os

import pytest
from three_sites import fill

from drtool.operations.dumping import dump_archive, place_of
from drtool.sources.filesystem.attributes import Attributes

LARGE_BYTES = 5 * 1024 * 1024


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EIO])
@pytest.mark.spread(3)
def test_content_and_other_attributes_are_captured(world, monkeypatch, number):
    contents = {"small": b"text", "large": os.urandom(LARGE_BYTES), "empty": b"", "below/file": b"more"}
    source = fill(world.root / "source", contents)
    paths = [source / name for name in (*contents, "below")]
    try:
        for path in paths:
            os.setxattr(path, "user.token", b"secret")
            os.setxattr(path, "user.other", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error.strerror}")
    get = os.getxattr

    def getting(target, name, **more):
        if name == "user.token":
            raise OSError(number, os.strerror(number))
        return get(target, name, **more)

    monkeypatch.setattr("drtool.sources.filesystem.attributes.os.getxattr", getting)
    report = world.backup(source)
    again = world.backup(source)
    monkeypatch.undo()
    message = f"xattr user.token: {os.strerror(number)}"
    expected = sorted((str(path), message) for path in paths)
    assert sorted((row.path, row.message) for row in report.errors) == expected
    assert sorted((row.path, row.message) for row in again.errors) == expected
    out = world.root / "out"
    result = world.restore(out, path=source)
    assert sorted((row.path, row.message) for row in result.errors) == [
        (path, f"{message} (when it was backed up)") for path, _ in expected
    ]
    assert result.files == len(contents)
    for name, content in contents.items():
        assert (out / name).read_bytes() == content
        assert os.listxattr(out / name) == ["user.other"]
    assert archived(world, source) == (len(contents), [path for path, _ in expected])
    assert world.backup(source).errors == []


def archived(world, source):
    """The files in a tar archive of the newest snapshot, and the paths that it reports as incomplete."""
    heard = []
    with world.open() as repository:
        snapshot = max(repository.view.state.snapshots, key=lambda row: row.sequence)
        place = place_of(repository, snapshot, os.fsencode(source))
        dumped = dump_archive(repository, place, "tar", io.BytesIO(), heard.append)
    assert dumped.errors == len(heard)
    assert all("xattr user.token" in event.message for event in heard)
    return dumped.files, sorted(event.path for event in heard)


@pytest.mark.parametrize(
    ("name", "number", "is_error"),
    [
        ("security.selinux", errno.EOPNOTSUPP, False),
        ("security.selinux", errno.EINVAL, False),
        ("security.selinux", errno.EPERM, False),
        ("security.selinux", errno.ENOSPC, True),
        ("security.capability", errno.EPERM, True),
        ("user.other", errno.EOPNOTSUPP, True),
    ],
)
def test_a_label_that_the_host_refuses_is_counted_and_no_error(world, monkeypatch, name, number, is_error):
    attributes = Attributes(((name.encode(), b"value"),), 0, ())
    monkeypatch.setattr("drtool.operations.backup.worker.attributes_of", lambda _: attributes)
    contents = {"small": b"text", "below/file": b"more"}
    source = fill(world.root / "source", contents)
    world.backup(source)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("drtool.sources.filesystem.applying.os.setxattr", refuse)
    result = world.restore(world.root / "out", path=source)
    assert (result.files, result.attributes_not_set) == (2, 2)
    assert [row.restored for row in result.errors] == ([True, True] if is_error else [])
