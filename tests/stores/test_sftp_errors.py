"""Failures at an SSH server give one sentence and the right kind of error, and stored objects stay complete."""

import gc
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
import sshd
from msgspec.structs import replace

from drtool.errors import ObjectMissing, StoreError, TargetOffline, TargetReadOnly, UsageError
from drtool.stores.sftp import SftpStore, sftp_place


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def server(tmp_path: Path):
    """A server for this test alone, which may be killed."""
    sshd.demand()
    own = sshd.Sshd(tmp_path / "sshd")
    own.start()
    yield own
    own.remove()


@pytest.fixture
def store(site: Path):
    opened = SftpStore.create(sshd.shared().place(site))
    yield opened
    opened.close()


def refusal(place) -> StoreError:
    """Return the error of opening, which must not be retried."""
    with pytest.raises(StoreError) as caught:
        SftpStore.create(place)
    assert not caught.value.transient
    return caught.value


def fingerprint(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sftp://nas/srv/x", ("nas", None, None, "/srv/x")),
        ("sftp://me@nas:2222//srv/x/", ("nas", "me", 2222, "/srv/x")),
        ("sftp://[::1]:22/a%20b", ("::1", None, 22, "/a%20b")),
    ],
)
def test_a_url_names_a_server_and_a_directory(url, told):
    place = sftp_place(url)
    assert (place.host, place.user, place.port, place.path) == told


@pytest.mark.parametrize(
    "url",
    ["sftp://nas", "sftp://nas/", "sftp:///srv", "sftp://nas:0/x", "sftp://nas:x/x", "ssh://nas/x", "sftp://n/x?y=z"],
)
def test_an_invalid_server_url_is_a_usage_error(url):
    with pytest.raises(UsageError):
        sftp_place(url)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="must not contain a password") as caught:
        sftp_place("sftp://me:hunter2@nas/x")
    assert "hunter2" not in caught.value.message


def test_an_unknown_server_is_refused(site, tmp_path):
    server = sshd.shared()
    (tmp_path / "nobody").write_text("")
    error = refusal(replace(server.place(site), known_hosts=str(tmp_path / "nobody")))
    assert fingerprint(server.root / "host.pub") in error.message
    assert "ssh-keyscan" in error.hint
    assert not site.exists()


def test_a_changed_host_key_is_not_accepted(server, site):
    server.kill()
    server.new_host_key()
    server.start()
    assert fingerprint(server.root / "host.pub") in refusal(server.place(site)).message
    assert not site.exists()


def test_no_line_of_ssh_config_switches_the_check_off(site, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    monkeypatch.setenv("HOME", str(home))
    assert "host key" in refusal(replace(sshd.shared().place(site), known_hosts=None)).message


def test_a_key_that_the_server_does_not_know_is_named(site, tmp_path, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    error = refusal(replace(sshd.shared().place(site), identity_file=str(tmp_path / "other")))
    assert str(tmp_path / "other") in error.message
    assert "authorized_keys" in error.hint


def test_a_key_with_a_passphrase_needs_an_agent(site, tmp_path, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    shutil.copy(sshd.shared().identity, tmp_path / "locked")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", tmp_path / "locked"], check=True)
    error = refusal(replace(sshd.shared().place(site), identity_file=str(tmp_path / "locked")))
    assert "passphrase" in error.message


@pytest.mark.parametrize("which", ["identity_file", "known_hosts"])
def test_a_file_that_is_not_there_is_named(site, tmp_path, which):
    error = refusal(replace(sshd.shared().place(site), **{which: str(tmp_path / "absent")}))
    assert str(tmp_path / "absent") in error.message


def at_home(tmp_path, monkeypatch) -> Path:
    """An empty ~/.ssh, and no agent."""
    ours = tmp_path / "home" / ".ssh"
    ours.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(ours.parent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return ours


def test_known_hosts_that_are_there_and_cannot_be_read_are_named(site, tmp_path, monkeypatch):
    ours = at_home(tmp_path, monkeypatch)
    (ours / "known_hosts").mkdir()  # even root cannot read it as a file
    error = refusal(replace(sshd.shared().place(site), known_hosts=None))
    assert f"{ours / 'known_hosts'} cannot be read" in error.message


def test_without_known_hosts_the_error_says_how_to_add_a_key(site, tmp_path, monkeypatch):
    at_home(tmp_path, monkeypatch)
    assert "ssh-keyscan" in refusal(replace(sshd.shared().place(site), known_hosts=None)).hint


def test_a_root_that_is_a_file_is_reported(site):
    site.write_text("x")
    for way in (SftpStore.open, SftpStore.create):
        with pytest.raises(TargetOffline, match=f"there is a file, not a directory, as {site}") as caught:
            way(sshd.shared().place(site))
        assert isinstance(caught.value.__cause__, NotADirectoryError)
    assert site.read_text() == "x"


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A real agent with more keys than a server permits to try. Returns a function that adds a private key by its path."""
    path = tmp_path / "agent"
    if shutil.which("ssh-agent") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("ssh-agent is not here: apt-get install openssh-client")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as running:
        while not path.exists():
            assert running.poll() is None
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))

        def add(key: Path) -> None:
            subprocess.run(["ssh-add", "-q", key], check=True, stderr=subprocess.DEVNULL)

        for i in range(8):
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / f"other{i}")
            (tmp_path / f"other{i}").chmod(0o600)
            add(tmp_path / f"other{i}")
        yield add
        running.terminate()


def test_a_key_that_is_named_is_offered_alone(site, agent):
    SftpStore.create(sshd.shared().place(site)).close()


def test_an_agent_opens_a_key_with_a_passphrase(site, agent, tmp_path):
    locked = tmp_path / "locked"
    shutil.copy(sshd.shared().identity, locked)
    agent(locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked], check=True)
    SftpStore.create(replace(sshd.shared().place(site), identity_file=str(locked))).close()


def test_an_agents_key_lets_in_without_any_file(site, agent, tmp_path, monkeypatch):
    subprocess.run(["ssh-add", "-q", "-D"], check=True, stderr=subprocess.DEVNULL)
    agent(sshd.shared().identity)
    monkeypatch.setenv("HOME", str(tmp_path))
    SftpStore.create(replace(sshd.shared().place(site), identity_file=None)).close()


def test_opening_creates_nothing(site):
    with pytest.raises(TargetOffline, match="there is no directory") as caught:
        SftpStore.open(sshd.shared().place(site))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert not site.exists()


def test_a_root_that_is_gone_is_offline_and_not_made_again(store, site):
    store.put("a/x", b"1")
    site.rename(site.with_name("moved"))
    for call in (
        lambda: store.put("y", b"1"),
        lambda: store.put_if_absent("a/y", b"1"),
        lambda: store.get("a/x"),
        lambda: list(store.list()),
        lambda: store.delete("a/x"),
        store.free_bytes,
    ):
        with pytest.raises(TargetOffline):
            call()
    assert not site.exists()


def test_a_directory_that_was_removed_is_made_again(store, site):
    store.put("packs/ab/1", b"1")
    (site / "packs/ab/1").unlink()
    (site / "packs/ab").rmdir()
    store.put("packs/ab/2", b"2")
    assert [row.name for row in store.list()] == ["packs/ab/2"]


def test_a_read_only_server_is_reported(tmp_path, site):
    sshd.demand()
    SftpStore.create(sshd.shared().place(site)).close()
    (site / "x").write_bytes(b"1")
    server = sshd.Sshd(tmp_path / "sshd", subsystem="internal-sftp -R")
    server.start()
    try:
        store = SftpStore.open(server.place(site))
        for write in (lambda: store.put("y", b"2"), lambda: store.put_if_absent("y", b"2"), lambda: store.delete("x")):
            with pytest.raises(TargetReadOnly):
                write()
        assert store.get("x") == b"1"
        store.close()
    finally:
        server.remove()


def test_a_server_that_came_back_is_used_at_once(server, site):
    store = SftpStore.create(server.place(site))
    store.put("x", b"1")
    server.kill()
    with pytest.raises(TargetOffline):
        store.get("x")
    server.start()
    assert store.get("x") == b"1"
    server.kill()
    server.start()
    store.put("y", b"2")  # a connection lost while idle is noticed before anything is sent
    assert store.get("y") == b"2"
    store.close()


def test_killed_in_the_midst_of_writing_nothing_torn_has_a_name(server, site):
    store = SftpStore.create(server.place(site))
    data = os.urandom(8 << 20)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(store.put, f"packs/{i}", data) for i in range(12)]
        running[1].result()
        server.kill()
        failures = [one.exception() for one in running]
    assert any(failures)
    assert all(failure is None or isinstance(failure, TargetOffline) for failure in failures)
    server.start()
    for i, failure in enumerate(failures):
        if failure is None:
            assert store.get(f"packs/{i}") == data
    assert {row.size_bytes for row in store.list()} == {len(data)}
    store.close()


def test_sixteen_threads_share_a_connection(store):
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda i: store.put(f"x/{i:03}", b"%d" % i), range(160)))
        assert list(threads.map(lambda i: store.get(f"x/{i:03}"), range(160))) == [b"%d" % i for i in range(160)]


def test_a_forked_child_does_not_share_the_connection(store):
    """The child may not use the connection, and its cleanup does not disturb the parent."""
    store.put("x", b"1")
    pid = os.fork()
    if pid == 0:
        verdict = 1
        try:
            store.get("x")
        except StoreError as error:
            verdict = 0 if "another process" in error.message else 2
        store.link._runner._loop.close()
        gc.collect()
        os._exit(verdict)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.get("x") == b"1"


def test_a_file_that_is_not_regular_counts_as_absent(store, site):
    os.mkfifo(site / "pipe")
    (site / "link").symlink_to("/etc/passwd")
    (site / "directory").mkdir()
    for name in ("link", "directory", "directory/x"):
        with pytest.raises(ObjectMissing):
            store.get(name)
    assert list(store.list()) == []
