"""A real SSH server without fsync@openssh.com, as some appliances are.

It stores data and a copy of the catalogue, and does not vote.
"""

import shutil

import pytest
import sshd
from command_shell import shell_in
from three_sites import fill, noise, portrait


@pytest.fixture
def server(tmp_path_factory):
    sshd.demand()
    server = sshd.Sshd(tmp_path_factory.mktemp("ssh-server"), subsystem="internal-sftp -P fsync")
    server.start()
    yield server
    server.remove()


def test_it_stores_without_a_vote_and_alone_gives_everything_back(server, tmp_path):
    shell = shell_in(tmp_path)
    url = server.url(tmp_path / "far")
    done = shell("init", "--target", f"far={url}", "--target", f"desk={tmp_path / 'desk'}", "--copies", "2", "--json")
    assert done.code == 0, done.err
    assert done.document["voters"] == ["arbiter/main", "desk/main"]
    source = fill(tmp_path / "source", {f"{n}": noise(300_000, n) for n in range(3)})
    assert shell("backup", str(source)).code == 0
    told = shell("status", "--json").document
    assert [(row["target"], row["lag"]) for row in told["catalogue_copies"]] == [("far/main", 0)]

    for lost in ("desk", "data"):
        shutil.rmtree(tmp_path / lost)
    (tmp_path / "elsewhere").mkdir()
    other = shell_in(tmp_path / "elsewhere")
    done = other("connect", url)
    assert done.code == 0, done.out + done.err
    done = other("restore", f"latest:{source}", "--to", str(tmp_path / "out"), "--manifest-from", "far")
    assert done.code == 0, done.out + done.err
    assert portrait(tmp_path / "out") == portrait(source)
