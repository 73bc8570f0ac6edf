"""A server that answers 503 to every third request: the right result or a clear error, in bounded time; nothing is sent twice but
what was refused.
"""

import time
from collections import Counter

import pytest
from bad_buckets import BUCKET, BadBucket
from command_shell import shell_in
from three_sites import fill, noise, portrait


@pytest.fixture
def server():
    bucket = BadBucket()
    yield bucket
    bucket.close()


@pytest.fixture
def shell(tmp_path):
    shell = shell_in(tmp_path)
    shell.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"}
    return shell


def found(shell, server, *others):
    targets = [f"cloud=s3://{BUCKET}/drtool?endpoint={server.endpoint}", *others]
    done = shell(
        "init", *(word for target in targets for word in ("--target", target)), "--copies", str(1 + bool(others))
    )
    assert done.code == 0, done.err
    server.fault = "503 every third request"
    server.asked.clear()


@pytest.mark.thorough
def test_beside_two_disks_nobody_notices(tmp_path, shell, server):
    found(shell, server, f"desk={tmp_path / 'desk'}", f"attic={tmp_path / 'attic'}")
    source = fill(tmp_path / "source", {f"{n}": noise(6_000_000, n) for n in range(8)})
    began = time.monotonic()
    done = shell("backup", str(source), "--json")
    assert done.code == 0, done.out + done.err
    done = shell("restore", f"latest:{source}", "--to", str(tmp_path / "out"), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.err
    assert portrait(tmp_path / "out") == portrait(source)
    done = shell("verify", "--level", "full", "--json")
    assert done.code == 0, done.out + done.err
    assert time.monotonic() - began < 100
    puts = Counter(key for method, key in server.asked if method == "PUT" and "/packs/" in key)
    stored = [key for key in server.objects if "/packs/" in key]
    assert len(puts) == len(stored) > 0
    refused = sum(method == "PUT" and "/packs/" in key for method, key in server.asked[2::3])
    assert sum(puts.values()) - len(puts) <= refused, "only what was refused is sent again"


def test_a_server_that_is_busy_while_it_is_opened_is_asked_again(tmp_path, shell, server):
    found(shell, server, f"desk={tmp_path / 'desk'}", f"attic={tmp_path / 'attic'}")
    server.fault = "503 to the first two of each"
    document = shell("status", "--json").document
    assert [site["reachable"] for site in document["sites"]] == [True, True, True], document
    marker = [key for method, key in server.asked if method == "GET" and key.endswith("drtool.json")]
    assert len(marker) == 3, "twice in vain"


@pytest.mark.thorough
def test_alone_it_serves_every_command(tmp_path, shell, server):
    """A storm that lasts: each command ends with the right result, since no other site could serve."""
    found(shell, server)
    source = fill(tmp_path / "source", {f"{n}": noise(300_000, n) for n in range(4)})
    for words in (
        ["backup", str(source)],
        ["restore", f"latest:{source}", "--to", str(tmp_path / "out")],
        ["verify", "--level", "full"],
        ["repair"],
        ["forget", "--keep-last", "1"],
        ["prune"],
        ["status"],
    ):
        done = shell(*words)
        assert done.code == 0, (words, done.out + done.err)
    assert portrait(tmp_path / "out") == portrait(source)


@pytest.mark.parametrize("fault", ["captive portal", "redirects"])
@pytest.mark.thorough
def test_something_else_that_answers_is_one_site_away(tmp_path, shell, server, fault):
    found(shell, server, f"desk={tmp_path / 'desk'}", f"attic={tmp_path / 'attic'}")
    server.fault = "none"
    source = fill(tmp_path / "source", {"first": noise(200_000, 1)})
    assert shell("backup", str(source)).code == 0
    server.fault = fault
    fill(source, {"second": noise(200_000, 2)})
    done = shell("backup", str(source), "--json")
    (report,) = done.document["snapshots"]
    assert done.code == (5 if report["degraded"] else 0), (
        "a copy that lies in the bucket does not count while it is away"
    )
    assert [row["target"] for row in report["owed"]] == ["cloud/main"]
    status = shell("status", "--json")
    assert status.code == 7
    assert any("cloud/main" in problem for problem in status.document["problems"])
    assert shell("restore", f"latest:{source}", "--to", str(tmp_path / "out")).code == 0
    assert portrait(tmp_path / "out") == portrait(source)
    server.fault = "none"
    assert shell("repair").code == 0
    assert shell("verify", "--level", "full").code == 0
