"""A server that lets this host read and not write is seen by `status`, and named with its own reason."""

import pytest
from bad_buckets import BUCKET, BadBucket
from command_shell import shell_in
from sshd import Sshd, demand
from three_sites import fill


@pytest.fixture
def shell(tmp_path):
    shell = shell_in(tmp_path)
    shell.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"}
    fill(tmp_path / "source", {"file": b"x" * 10_000})
    return shell


@pytest.fixture
def server():
    bucket = BadBucket()
    yield bucket
    bucket.close()


def three(shell, url):
    disks = [f"{name}={shell.directory / name}" for name in ("desk", "attic")]
    words = [word for target in (f"cloud={url}", *disks) for word in ("--target", target)]
    done = shell("init", *words)
    assert done.code == 0, done.err
    assert shell("backup", "source").code == 0


def problems(shell, code):
    done = shell("status", "--json")
    assert (done.code, done.document["healthy"]) == (code, code == 0), done.out
    return done.document["problems"]


def said(lines, *words):
    return any(all(word in line for word in words) for line in lines)


@pytest.mark.thorough
def test_a_key_that_may_only_read_is_named(shell, server):
    three(shell, f"s3://{BUCKET}/drtool?endpoint={server.endpoint}")
    assert problems(shell, 0) == []
    server.fault = "may not write"
    listed = problems(shell, 7)
    assert said(listed, "target cloud/main cannot be written", "AccessDenied") or said(
        listed, "cloud/main", "denied"
    ), listed
    assert said(listed, "voter cloud cannot vote"), listed
    done = shell("backup", "source", "--json")
    assert [row["target"] for row in done.document["snapshots"][0]["owed"]] == ["cloud/main"]
    assert "voter cloud cannot vote" in done.err
    done = shell("verify", "--json")
    assert [row["target"] for row in done.document["refusing"]] == ["cloud/main"]
    server.fault = "none"
    assert problems(shell, 0) == []


@pytest.mark.thorough
def test_a_bucket_that_deletes_nothing_is_healthy(shell, server):
    three(shell, f"s3://{BUCKET}/drtool?endpoint={server.endpoint}")
    server.fault = "may not delete"
    assert problems(shell, 0) == []


@pytest.mark.thorough
def test_an_ssh_server_that_became_read_only_is_named(shell, tmp_path):
    demand()
    server = Sshd(tmp_path / "sshd")
    server.start()
    try:
        three(shell, server.url(tmp_path / "far"))
        assert problems(shell, 0) == []
        server.kill()
        configuration = tmp_path / "sshd/sshd_config"
        configuration.write_text(configuration.read_text().replace("internal-sftp", "internal-sftp -R"))
        server.start()
        listed = problems(shell, 7)
        assert said(listed, "target cloud/main cannot be written"), listed
        assert said(listed, "voter cloud cannot vote"), listed
    finally:
        server.remove()


def moved_to_a_directory(shell, server, url):
    """Every object of the bucket lies in a directory now, and the configuration says so; the provider is gone."""
    for key, data in server.objects.items():
        fill(shell.directory / "moved", {key.removeprefix("drtool/"): data})
    server.close()
    config = shell.directory / "drtool.yaml"
    config.write_text(config.read_text().replace(url, str(shell.directory / "moved")))


@pytest.mark.thorough
def test_a_register_that_was_copied_to_another_kind_of_medium_is_named_and_begun_again(shell, server):
    url = f"s3://{BUCKET}/drtool?endpoint={server.endpoint}"
    three(shell, url)
    moved_to_a_directory(shell, server, url)
    listed = problems(shell, 7)
    assert said(listed, "voter cloud cannot vote", "made for a bucket", "drtool site add cloud"), listed
    assert shell("doctor", "--json").document["healthy"] is False
    assert shell("site", "add", "cloud").code == 0
    assert problems(shell, 0) == []


@pytest.mark.thorough
def test_a_single_bucket_that_became_a_directory_goes_on_after_the_command_that_status_names(shell, server):
    url = f"s3://{BUCKET}/drtool?endpoint={server.endpoint}"
    assert shell("init", "--target", f"cloud={url}").code == 0
    assert shell("backup", "source").code == 0
    moved_to_a_directory(shell, server, url)
    listed = problems(shell, 6)
    assert said(listed, "drtool manifest recover --from cloud --i-accept-lost-writes"), listed
    assert shell("backup", "source").code == 6
    assert shell("manifest", "recover", "--from", "cloud", "--i-accept-lost-writes").code == 0
    assert (problems(shell, 0), shell("backup", "source").code) == ([], 0)
    assert shell("manifest", "check").code == 0
    assert len(shell("snapshots", "--json").document["snapshots"]) == 2
