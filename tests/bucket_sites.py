"""Three real S3 servers as sites of one repository, and the command line that works on it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import seaweed
from command_shell import Shell, shell_in

SITES = ("paris", "oslo", "rome")


@dataclass
class BucketSites:
    """`servers` by site; `shell` runs drtool as cron does, with the credentials of these servers."""

    shell: Shell
    servers: dict[str, seaweed.Seaweed]

    def url(self, site: str) -> str:
        return f"s3://{seaweed.BUCKET}/repository?endpoint={self.servers[site].endpoint}"

    def found(self, copies: int = 2) -> None:
        targets = [word for site in self.servers for word in ("--target", f"{site}={self.url(site)}")]
        done = self.shell("init", *targets, "--copies", str(copies), "--json")
        assert done.code == 0, done.err

    def objects(self, site: str, prefix: str = "packs/") -> dict[str, int]:
        """What lies at a site, with its size, seen past drtool."""
        pages = self.servers[site].client().get_paginator("list_objects_v2")
        rows = pages.paginate(Bucket=seaweed.BUCKET, Prefix=f"repository/{prefix}")
        return {row["Key"]: row["Size"] for page in rows for row in page.get("Contents", ())}


@contextmanager
def bucket_sites(directory: Path, sites: tuple[str, ...] = SITES) -> Iterator[BucketSites]:
    """Starts a server for each site; stops them in the end."""
    seaweed.demand()
    servers = {site: seaweed.Seaweed(directory / f"server-{site}") for site in sites}
    try:
        starting = [threading.Thread(target=server.start) for server in servers.values()]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        for server in servers.values():
            server.client().create_bucket(Bucket=seaweed.BUCKET)
        shell = shell_in(directory)
        shell.environ |= {"AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY}
        shell.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(directory)}
        yield BucketSites(shell, servers)
    finally:
        for server in servers.values():
            server.remove()


def wait_for(condition, timeout_s: float = 60.0) -> None:
    """Polls until it holds."""
    ended = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        ended.wait(0.02)
    raise AssertionError(f"not within {timeout_s} s on {os.uname().nodename}")
