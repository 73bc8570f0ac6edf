"""Across a network that loses one packet in a hundred and is cut in mid-backup, everything arrives."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import seaweed
import sshd

HERE = Path(__file__).parent


def demand_a_network() -> None:
    """A skip, or in CI a failure, where no network of our own can be made."""
    missing = [word for word in ("unshare", "nft", "ip") if shutil.which(word) is None]
    why = f"{' and '.join(missing)} not here: apt-get install util-linux nftables iproute2" if missing else ""
    if os.geteuid() != 0:
        why = "only root makes a network of its own"
    if why:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.mark.thorough
def test_a_network_that_loses_packets_and_is_cut():
    demand_a_network()
    seaweed.demand()
    sshd.demand()
    with tempfile.TemporaryDirectory(prefix="drtool-lossy-") as directory:
        done = subprocess.run(
            ["unshare", "--net", sys.executable, HERE / "lossy_network.py", directory],
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    lost = int(done.stdout.splitlines()[-1].split()[0])
    assert lost > 100
