"""What can be wrong with a server: one clear sentence, the right exit code, and nothing written."""

import getpass
import glob
import os
from pathlib import Path

import pytest
import seaweed
import sshd
from command_shell import Shell, shell_in
from three_sites import fill

RIGHT = {"AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY}


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Shell:
    seaweed.shared()
    for name in RIGHT:
        monkeypatch.delenv(name, raising=False)
    made = shell_in(tmp_path)
    made.environ |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    made.environ.pop("SSH_AUTH_SOCK", None)
    return made


@pytest.fixture
def bucket_url(tmp_path) -> str:
    return f"s3://{seaweed.BUCKET}/{tmp_path.name.lower().replace('_', '-')}?endpoint={seaweed.shared().endpoint}"


def lies_at(bucket_url: str) -> list[str]:
    prefix = bucket_url.removeprefix(f"s3://{seaweed.BUCKET}/").partition("?")[0]
    rows = seaweed.shared().client().list_objects_v2(Bucket=seaweed.BUCKET, Prefix=prefix)
    return [row["Key"] for row in rows.get("Contents", ())]


def in_an_hour() -> dict[str, str]:
    """What makes a program believe that it is an hour later."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("faketime is not here: apt-get install faketime")
    return {"LD_PRELOAD": found[0], "FAKETIME": "+1h"}


@pytest.mark.parametrize(
    ("environ", "change", "words"),
    [
        ({}, ("", ""), "there are no credentials for it"),
        (RIGHT | {"AWS_SECRET_ACCESS_KEY": "wrong"}, ("", ""), "does not accept these credentials"),
        (RIGHT | {"AWS_ACCESS_KEY_ID": "wrong"}, ("", ""), "does not accept these credentials"),
        (RIGHT, (f"//{seaweed.BUCKET}/", "//nothing-here/"), "there is no such bucket"),
        (RIGHT, ("http://127.0.0.1:", "http://127.0.0.1:1"), "not like https://"),
    ],
)
@pytest.mark.spread(4)
def test_a_bucket_that_cannot_be_used(shell, bucket_url, environ, change, words):
    url = bucket_url.replace(*change)
    done = shell("init", "--target", f"a={url}", "--target", f"b={shell.directory / 'b'}", "--json", **environ)
    assert done.code == (2 if "not like" in words else 1)
    assert words in done.error["message"]
    assert done.error["hint"] or done.code == 2
    assert lies_at(bucket_url) == []
    assert not (shell.directory / "b").exists()
    assert not (shell.directory / "drtool.yaml").exists()


def test_nothing_to_connect_to(shell, bucket_url):
    for url in (bucket_url, bucket_url.replace(seaweed.BUCKET, "nothing-here")):
        assert shell("connect", url, **RIGHT).code == 10
    assert shell("connect", "s3://nobody/x?endpoint=http://127.0.0.1:1", **RIGHT).code == 6


@pytest.mark.thorough
def test_a_repository_that_is_there_is_not_founded_over_and_another_ones_place_is_not_used(shell, bucket_url):
    assert shell("init", "--target", f"a={bucket_url}", "--copies", "1", **RIGHT).code == 0
    before = lies_at(bucket_url)
    done = shell("--config", "other.yaml", "init", "--target", f"a={bucket_url}", "--copies", "1", "--json", **RIGHT)
    assert (done.code, "a repository exists already" in done.error["message"]) == (11, True)
    assert shell("--config", "other.yaml", "init", "--target", "x=here", "--copies", "1").code == 0
    done = shell("--config", "other.yaml", "target", "add", "y", bucket_url, "--json", **RIGHT)
    assert done.code == 11, done.err
    text = (shell.directory / "other.yaml").read_text()
    (shell.directory / "mixed.yaml").write_text(
        text.replace("sites:", f"sites:\n  a: {{main: {{url: '{bucket_url}'}}}}", 1)
    )
    source = fill(shell.directory / "source", {"f": b"x"})
    done = shell("--config", "mixed.yaml", "backup", str(source), **RIGHT)
    assert (done.code, "belong to several repositories" in done.err) == (2, True)
    assert lies_at(bucket_url) == before


@pytest.mark.thorough
def test_a_clock_that_is_an_hour_wrong(shell, bucket_url):
    assert shell("init", "--target", f"a={bucket_url}", "--copies", "1", **RIGHT).code == 0
    before = lies_at(bucket_url)
    source = fill(shell.directory / "source", {"f": b"x"})
    done = shell("backup", str(source), "--json", **RIGHT, **in_an_hour())
    assert (done.code, "clock differs too much" in done.error["message"]) == (6, True)
    assert "set the clock" in done.error["message"]
    assert lies_at(bucket_url) == before


@pytest.mark.parametrize("what", ["unknown", "changed", "no-key", "not-there"])
def test_an_ssh_server_that_cannot_be_used(shell, tmp_path, what):
    server = sshd.shared()
    known, identity = Path(server.known_hosts), server.identity
    if what == "unknown":
        (known := tmp_path / "known").write_text("")
    elif what == "changed":
        host, _, _ = server.known_hosts.read_text().partition(" ")
        key = server.identity.with_suffix(".pub").read_text().split()
        (known := tmp_path / "known").write_text(f"{host} {key[0]} {key[1]}\n")
    elif what == "no-key":
        identity = tmp_path / "absent"
    url = (
        f"sftp://{getpass.getuser()}@127.0.0.1:{server.port}{tmp_path}/box?identity_file={identity}&known_hosts={known}"
    )
    if what == "not-there":
        assert shell("connect", url).code == 10
        return
    done = shell("init", "--target", f"a={url}", "--target", f"b={tmp_path / 'b'}", "--json")
    words = {"unknown": "has a host key", "changed": "has a host key", "no-key": str(identity)}
    assert (done.code, words[what] in done.error["message"]) == (1, True), done.out
    assert done.error["hint"]
    assert not (tmp_path / "box").exists()
    assert not (tmp_path / "b").exists()
