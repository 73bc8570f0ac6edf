"""A repository in one bucket, or two, on which each verb has something to do; and the kinds of requests that it sends."""

import shutil
from pathlib import Path

from bad_buckets import BUCKET, BadBucket
from command_shell import Shell, shell_in
from three_sites import fill, noise

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
    "forget": [("GET", "drtool.json"), ("GET", "manifest/"), ("PUT", "manifest/")],
    "status": [("GET", "drtool.json"), ("LIST", "packs/"), ("GET", "manifest/")],
}


def s3_shell(directory: Path) -> Shell:
    """Return a shell with credentials that any server here takes."""
    shell = shell_in(directory)
    shell.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"}
    return shell


def url(server: BadBucket) -> str:
    return f"s3://{BUCKET}/drtool?endpoint={server.endpoint}"


def prepared(verb: str, tmp_path: Path, shell: Shell, servers: list[BadBucket]) -> tuple[list[str], BadBucket]:
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
    if verb == "forget":
        assert shell("backup", str(source)).code == 0
        return ["forget", "--keep-last", "1"], servers[0]
    return ["status"], servers[0]
