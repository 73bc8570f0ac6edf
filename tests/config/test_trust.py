"""Trusted files: the whole path of a file that drtool found, and the mode of one that was named."""

import os
from pathlib import Path

import pytest

from drtool.config.trust import Trust, check_trusted
from drtool.errors import ConfigError

OURS = Trust(uids=frozenset({0, os.geteuid()}))
STRANGER = Trust(uids=frozenset({os.geteuid() + 4711}))
NAMED = Trust(uids=OURS.uids, named=True)


@pytest.fixture
def place(tmp_path) -> Path:
    """Return a directory that only its owner may change."""
    made = tmp_path / "place"
    made.mkdir(mode=0o755)
    return made


def written(path: Path, mode: int = 0o600) -> Path:
    path.write_text("repository: x\n")
    path.chmod(mode)
    return path


def fault(path: Path, trust: Trust = OURS) -> str:
    """Return why the file is refused and the remedy, or an empty string."""
    try:
        check_trusted(path, "configuration", trust)
    except ConfigError as error:
        return f"{error.message}: {error.hint}"
    return ""


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o400])
def test_the_users_own_file_is_trusted(place, mode):
    assert fault(written(place / "drtool.yaml", mode)) == ""


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_file_that_others_may_write_is_not_trusted(place, mode):
    path = written(place / "drtool.yaml", mode)
    assert fault(path) == (
        f"the configuration {path} is not used: other users can write {path} (mode {mode:04o}): chmod go-w {path}"
    )
    assert fault(path, NAMED).endswith(f"every user of this host can write it (mode {mode:04o}): chmod o-w {path}")


def test_another_users_file_is_trusted_only_if_it_was_named(place):
    path = written(place / "drtool.yaml")
    assert "belongs to" in fault(path, STRANGER)
    assert fault(path, Trust(uids=STRANGER.uids, named=True)) == ""


def test_files_below_a_directory_that_others_may_write_are_not_trusted(place):
    (place / "below").mkdir()
    path = written(place / "below/drtool.yaml")
    place.chmod(0o777)
    assert fault(path).endswith(f"other users can write {place} (mode 0777): chmod go-w {place}")
    assert fault(path, NAMED) == ""
    place.chmod(0o1777)
    assert fault(path) == "", "in a sticky directory only the owner may replace the file"


def test_every_link_on_the_way_is_followed_and_checked(place, tmp_path):
    path = written(place / "real.yaml")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/link").symlink_to("../place/real.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "open/link")
    assert str(tmp_path / "open") in fault(tmp_path / "link.yaml")
    (tmp_path / "open").chmod(0o755)
    assert fault(tmp_path / "link.yaml") == ""
    path.chmod(0o666)
    assert str(path) in fault(tmp_path / "link.yaml")


def test_a_cycle_of_links_gives_one_sentence(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert "too many links" in fault(place / "a")


def test_a_file_that_is_not_there_passes(place):
    assert fault(place / "nothing") == ""


def test_a_group_without_other_members_counts_as_the_owner(place, monkeypatch):
    """As with umask 002 on systems that give each user a group."""
    from drtool.config import trust

    path = written(place / "drtool.yaml", 0o664)
    me = trust._user(os.geteuid())
    for members, believed in (([], True), ([me], True), ([me, "eve"], False)):
        group = type("Group", (), {"gr_mem": members})
        monkeypatch.setattr(trust.grp, "getgrgid", lambda _, group=group: group)
        monkeypatch.setattr(trust.pwd, "getpwall", list)
        assert (fault(path) == "") is believed
    monkeypatch.setattr(trust.grp, "getgrgid", lambda _: type("Group", (), {"gr_mem": []}))
    other = type("Entry", (), {"pw_name": "eve", "pw_gid": path.stat().st_gid})
    monkeypatch.setattr(trust.pwd, "getpwall", lambda: [other])
    assert "other users can write" in fault(path), "it is the primary group of another user"


def test_an_acl_that_lets_another_user_write_is_seen(place, monkeypatch):
    from drtool.config import trust

    path = written(place / "drtool.yaml", 0o660)
    monkeypatch.setattr(trust.os, "listxattr", lambda _: ["system.posix_acl_access"])
    assert "other users can write" in fault(path)


def test_in_a_container_unmapped_directories_are_accepted(tmp_path):
    """The owner of `/` is not mapped there. A file needs a mapped owner."""
    path = written(tmp_path / "drtool.yaml")
    outside = Trust(uids=STRANGER.uids, unmapped_uid=0)
    if os.geteuid() == 0:
        assert f"{path} belongs to" in fault(path, outside)
