"""Files of absurd size on one site, in all places that the manifest reads: they are not read whole and block no command."""

import os

import pytest
from manifest_world import Sites, backup, sources

from drtool.manifest.names import INBOX, inbox_key

HUGE_BYTES = 1 << 50
"""Larger than any memory: reading it whole would kill the process. The file is sparse."""


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path)


def grow(path):
    """Make the file this large, or smaller if the file system has a limit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = HUGE_BYTES
    with path.open("r+b" if path.exists() else "wb") as file:
        while True:
            try:
                file.truncate(size_bytes)
            except OSError:
                size_bytes //= 2
            else:
                return


@pytest.mark.parametrize("name", ["v-*", "z-sealed", "v-000000999999"])
def test_a_huge_file_in_a_register_costs_that_sites_vote_and_no_more(sites, name):
    backup(sites.found(), "before")
    (register,) = (sites.root / "site2" / "manifest" / "acc" / "g0001").iterdir()
    grow(max(register.glob(name), default=register / name))
    for host in ("host", "stranger"):
        manifest = sites.host(host)
        assert sources(manifest.read()) == ["before"]
        assert {row.site: bool(row.problem) for row in manifest.status().acceptors}["site2"]
    backup(sites.host(), "after")
    assert sources(sites.host("stranger").read()) == ["before", "after"]


def test_a_huge_file_in_the_inbox_or_in_an_objects_place_is_passed_over(sites):
    manifest = sites.found()
    for _ in range(40):
        backup(manifest)
    grow(sites.root / "site0" / inbox_key(os.urandom(16), 1))
    grow(min((sites.root / "site0" / "manifest" / "obj").iterdir()))
    host = sites.host()
    host._course._crowd.met = True
    backup(host, "after")
    assert sources(sites.host("stranger").read())[-1] == "after"
    assert not list((sites.root / "site0" / INBOX).iterdir())
