"""SSH servers that may hold a register: those that keep its promises in a trial. The others store, but do not vote."""

import asyncio
import os
import threading
import time
from pathlib import Path

import asyncssh
import pytest
import sshd

from drtool.errors import StoreError
from drtool.stores import sftp_link
from drtool.stores.sftp import SftpPlace, SftpStore


class Plain(asyncssh.SFTPServer):
    """A server without the extensions of OpenSSH."""

    async def _refuse(self, *_):
        raise asyncssh.SFTPOpUnsupported("not here")

    fsync = link = posix_rename = _refuse


class Forbidding(asyncssh.SFTPServer):
    """A server that denies this user a look."""

    def stat(self, path):
        raise asyncssh.SFTPPermissionDenied("not you")


class Slow(asyncssh.SFTPServer):
    """A server that lists names slowly, one by one."""

    between_s = 0.009

    async def scandir(self, path):
        async for row in super().scandir(path):
            await asyncio.sleep(self.between_s)
            yield row


class Overwriting(asyncssh.SFTPServer):
    """A server with hard links that replace existing files."""

    def link(self, old, new):
        old, new = self.map_path(old), self.map_path(new)
        if os.path.lexists(new):
            os.unlink(new)
        os.link(old, new)


class Odd:
    """An asyncssh server on a thread."""

    def __init__(self, root: Path, kind: type[asyncssh.SFTPServer]) -> None:
        root.mkdir()
        self.root, self.kind = root, kind
        self.keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "id")}
        self.keys["id"].write_private_key(root / "id")
        self.keys["id"].write_public_key(root / "authorized")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = self._run(self._listen())
        port = self.server.get_port()
        (root / "known").write_text(f"[127.0.0.1]:{port} {self.keys['host'].export_public_key().decode()}")
        self.place = SftpPlace(
            host="127.0.0.1",
            port=port,
            user="x",
            path=str(root / "site"),
            identity_file=str(root / "id"),
            known_hosts=str(root / "known"),
        )

    async def _listen(self):
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.keys["host"]],
            authorized_client_keys=str(self.root / "authorized"),
            sftp_factory=self.kind,
        )

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _end(self):
        self.server.close()
        await self.server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stop(self):
        self._run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def odd(tmp_path):
    started = []

    def start(kind):
        started.append(Odd(tmp_path / "odd", kind))
        return started[-1].place

    yield start
    for one in started:
        one.stop()


def test_openssh_votes_and_nothing_of_the_probe_stays(tmp_path):
    store = SftpStore.create(sshd.shared().place(tmp_path / "site"))
    verdict = store.vote_verdict()
    assert (verdict.can_vote, verdict.file_system) == (True, "sftp")
    assert list((tmp_path / "site").iterdir()) == []
    store.close()


def test_a_server_without_the_extensions_stores_and_does_not_vote(odd):
    store = SftpStore.create(odd(Plain))
    verdict = store.vote_verdict()
    assert not verdict.can_vote
    assert "fsync@openssh.com" in verdict.reason
    store.put("packs/x", b"1")
    store.put("packs/x", b"1")  # as after a lost answer
    assert store.get("packs/x") == b"1"
    with pytest.raises(StoreError, match="cannot replace"):
        store.put("packs/x", b"2")
    assert store.get("packs/x") == b"1"
    assert [row.name for row in store.list()] == ["packs/x"]
    store.close()


def test_a_server_whose_links_overwrite_does_not_vote(odd):
    store = SftpStore.create(odd(Overwriting))
    verdict = store.vote_verdict()
    assert not verdict.can_vote
    assert "already" in verdict.reason
    store.close()


def test_a_root_without_permission_is_reported(odd):
    with pytest.raises(StoreError, match="may not be read: not you"):
        SftpStore.open(odd(Forbidding))


def test_a_listing_may_take_long_as_long_as_names_arrive(odd, monkeypatch):
    """The server sends 128 names at a time, and each such answer takes most of the time limit of a call."""
    monkeypatch.setattr(sftp_link, "CALL_S", 3.0)
    store = SftpStore.create(odd(Slow))
    for i in range(400):
        (Path(store.place.path) / f"x{i:03}").write_bytes(b"1")
    began = time.monotonic()
    assert len(store.names()) == 400
    assert time.monotonic() - began > 3.0
    store.close()
