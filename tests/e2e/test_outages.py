"""An outage of the only server, begun at each kind of request: every command waits and ends with the right result."""

import shutil

import pytest
from bad_buckets import BUCKET, BadBucket
from command_shell import shell_in
from three_sites import fill, noise, portrait

OUTAGE_S = 4.0
"""Longer than the tries of a single request last."""
KINDS = {
    "backup": [
        ("GET", "drtool.json"),
        ("GET", "keys/"),
        ("GET", "manifest/"),
        ("PUT", "manifest/"),
        ("PUT", "probe/"),
        ("DELETE", "probe/"),
        ("LIST", "packs/"),
        ("PUT", "packs/"),
        ("PUT", "index/"),
    ],
    "restore": [("GET", "manifest/"), ("GET", "index/"), ("GET", "packs/")],
    "verify": [("LIST", "packs/"), ("GET", "packs/"), ("GET", "index/"), ("PUT", "manifest/")],
    "prune": [("LIST", "packs/"), ("DELETE", "packs/"), ("GET", "packs/"), ("PUT", "manifest/")],
    "repair": [("LIST", "packs/"), ("GET", "packs/"), ("PUT", "packs/"), ("PUT", "index/"), ("GET", "manifest/")],
    "rebalance": [("LIST", "packs/"), ("GET", "packs/"), ("PUT", "packs/")],
    "status": [("GET", "drtool.json"), ("LIST", "packs/"), ("GET", "manifest/")],
}


@pytest.fixture
def servers():
    buckets = [BadBucket(), BadBucket()]
    yield buckets
    for bucket in buckets:
        bucket.close()


@pytest.fixture
def shell(tmp_path):
    shell = shell_in(tmp_path)
    shell.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"}
    return shell


def url(server):
    return f"s3://{BUCKET}/drtool?endpoint={server.endpoint}"


def prepared(verb, tmp_path, shell, servers):
    """A repository in one bucket, or two, in which the verb has something to do; the command line, and the bucket to fail."""
    source = fill(tmp_path / "source", {f"{n}": noise(300_000, n) for n in range(3)})
    both = verb in ("repair", "rebalance")
    targets = [f"cloud={url(servers[0])}", *([f"far={url(servers[1])}"] if both else []), f"attic={tmp_path / 'attic'}"]
    words = [word for target in (targets if both else targets[:1]) for word in ("--target", target)]
    assert shell("init", *words, "--copies", "3" if both else "1").code == 0
    assert shell("backup", str(source)).code == 0
    if verb == "backup":
        fill(source, {"more": noise(300_000, 9)})
        return ["backup", str(source)], servers[0]
    if verb == "restore":
        shutil.rmtree(tmp_path / "cache")
        return ["restore", f"latest:{source}", "--to", str(tmp_path / "out")], servers[0]
    if verb == "verify":
        return ["verify", "--level", "full"], servers[0]
    if verb == "prune":
        for n in range(3):
            (source / f"{n}").write_bytes(noise(300_000, 20 + n))
        assert shell("backup", str(source)).code == 0
        assert shell("forget", "--keep-last", "1").code == 0
        return ["prune"], servers[0]
    if verb == "repair":
        for name in [name for name in servers[0].objects if "/packs/" in name or "/index/" in name]:
            del servers[0].objects[name]
        shutil.rmtree(tmp_path / "attic" / "packs")
        return ["repair"], servers[0]
    if verb == "rebalance":
        return ["rebalance"], servers[0]
    return ["status"], servers[0]


@pytest.mark.thorough
@pytest.mark.parametrize(("verb", "method", "part"), [(verb, *kind) for verb, kinds in KINDS.items() for kind in kinds])
def test_an_outage_at_any_request_is_waited_out(verb, method, part, tmp_path, shell, servers):
    words, server = prepared(verb, tmp_path, shell, servers)
    server.outage = (method, part, OUTAGE_S)
    done = shell(*words)
    assert done.code == 0, done.out + done.err
    assert "Traceback" not in done.err
    if verb == "restore":
        assert portrait(tmp_path / "out") == portrait(tmp_path / "source")
    elif verb != "status":
        assert shell("verify", "--level", "full").code == 0
