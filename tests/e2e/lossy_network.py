"""A bucket, an SSH server and a disk as sites, in a network of their own that loses packets and is cut: run by `unshare --net`.

Nothing here pretends: the kernel drops one packet in a hundred, in both directions, and takes the link down in mid-backup.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import sshd
from bucket_sites import bucket_sites, wait_for
from three_sites import fill, noise, portrait

LOSS = "table inet lossy { chain arriving { type filter hook input priority 0; numgen random mod 100 < 1 counter drop; }; }"
CUT_S = 5.0


def network(*words: str) -> None:
    subprocess.run(words, check=True)


def dropped() -> int:
    """Packets that the kernel has lost so far."""
    listed = subprocess.run(("nft", "list", "ruleset"), check=True, capture_output=True, text=True).stdout
    return int(listed.split("counter packets ")[1].split()[0])


def cut_when_it_writes(packs: Path) -> None:
    """Waits until a backup has begun to store, and takes the link away for a while."""
    before = len(list(packs.rglob("*")))
    wait_for(lambda: len(list(packs.rglob("*"))) > before)
    network("ip", "link", "set", "lo", "down")
    time.sleep(CUT_S)
    network("ip", "link", "set", "lo", "up")


def main(directory: Path) -> None:
    network("ip", "link", "set", "lo", "up")
    network("nft", LOSS)
    server = sshd.Sshd(directory / "ssh-server")
    server.start()
    try:
        with bucket_sites(directory, ("frankfurt",)) as sites:
            story(directory, sites, server)
    finally:
        server.remove()


def story(directory: Path, sites, server: sshd.Sshd) -> None:
    shell = sites.shell
    places = {
        "paris": str(directory / "paris"),
        "frankfurt": sites.url("frankfurt"),
        "attic": server.url(directory / "attic"),
    }
    done = shell("init", *(word for site, url in places.items() for word in ("--target", f"{site}={url}")))
    assert done.code == 0, done.err
    source = fill(directory / "source", {f"{n}": noise(2_000_000, n) for n in range(4)})
    done = shell("backup", str(source), "--json")
    assert (done.code, done.document["snapshots"][0]["degraded"]) == (0, False), done.err
    assert portrait(restored(shell, source, "first")) == portrait(source)

    fill(source, {f"more-{n}": noise(2_000_000, 100 + n) for n in range(16)})
    cutting = threading.Thread(target=cut_when_it_writes, args=(directory / "paris" / "packs",))
    cutting.start()
    done = shell("backup", str(source), "--json")
    cutting.join()
    assert done.code in (0, 5), done.err
    assert portrait(restored(shell, source, "second")) == portrait(source)
    done = shell("repair", "--json")
    assert (done.code, done.document["unrepairable"]) == (0, []), done.err
    done = shell("verify", "--level", "full", "--json")
    assert (done.code, done.document["missing"], done.document["damaged"]) == (0, [], []), done.err
    sys.stdout.write(f"{dropped()} packets lost\n")


def restored(shell, source: Path, name: str) -> Path:
    to = shell.directory / name
    done = shell("restore", f"latest:{source}", "--to", str(to), "--json")
    assert (done.code, done.document["errors"]) == (0, []), done.err
    return to


if __name__ == "__main__":
    main(Path(sys.argv[1]))
