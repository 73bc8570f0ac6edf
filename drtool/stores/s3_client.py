"""Where a bucket is, and botocore's client for it.

Invariants
    A client asks each thing once: what may be asked again is decided above.
    What botocore reads from its own files to know S3 at all is read once a process, under a lock: it takes 80 ms a client, and 12
    where it has been read; three targets should not cost three times.

botocore is imported when the first bucket is opened: it takes a sixth of a second.
"""

import functools
import logging
import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from drtool.errors import UsageError
from drtool.stores.names import is_object_name
from drtool.stores.ports import Mode
from drtool.stores.s3_errors import failure
from drtool.stores.sent import note_sent

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
CONNECTIONS_MAX = 32
UNSENT_BYTES_MAX = 128 << 10

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.ASCII)
_one_at_a_time = threading.Lock()
for _library in ("botocore", "urllib3"):  # without a handler, Python prints their warnings; calls raise what matters
    logging.getLogger(_library).addHandler(logging.NullHandler())


class S3Place(Struct, frozen=True, kw_only=True):
    """Where a bucket is and how this host reaches it. What is None is left to the AWS configuration and environment."""

    bucket: str
    prefix: str = ""
    """Empty, or parts that each end in `/`."""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    path_style: bool | None = None
    """Whether the bucket goes into the path rather than the host's name; by default where there is an endpoint."""
    storage_class: str | None = None
    """For packs; all else is read often and stays in the bucket's own class."""
    register_mode: Mode = "cas"


def s3_place(url: str, **options: Any) -> S3Place:  # noqa: ANN401 - the fields of S3Place
    """The place behind `s3://bucket/prefix`; UsageError if it is none."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise UsageError(f"target URL {url!r} is not s3://BUCKET/PREFIX", hint="for example s3://acme-dr/drtool")
    prefix = parts.path.strip("/")
    if prefix and (not is_object_name(prefix) or len(prefix) > 256):
        raise UsageError(
            f"target URL {url!r}: {prefix!r} cannot be a prefix",
            hint="lower-case letters, digits, '.', '_' and '-', in parts joined by '/'",
        )
    return S3Place(bucket=parts.netloc, prefix=f"{prefix}/" if prefix else "", **options)


def connect(place: S3Place) -> Any:  # noqa: ANN401 - as above
    """A client that asks nothing yet. A profile that is not there is a `StoreError`."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    path_style = place.endpoint is not None if place.path_style is None else place.path_style
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=CONNECTIONS_MAX,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path" if path_style else "auto"},
    )
    try:
        with _one_at_a_time:
            session = Session(profile=place.profile)
            session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
            region = place.region or session.get_config_variable("region") or "us-east-1"
            client = session.create_client("s3", region_name=region, endpoint_url=place.endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise failure(error, f"s3://{place.bucket}/{place.prefix}", place.endpoint, writing=False) from error

    _set_connections_up(client)
    if place.endpoint is not None:
        client.meta.events.register_last("before-parameter-build.s3", _stay)
    return client


def _set_connections_up(client: Any) -> None:  # noqa: ANN401 - as above
    """Let the client's connections be of the kind below.

    botocore has no option for it; a test notices if its sessions lose this attribute.
    """
    pools = getattr(client._endpoint.http_session, "_pool_classes_by_scheme", None)  # noqa: SLF001 - see above
    if pools is not None:
        pools.update(_pools())


@functools.cache
def _pools() -> dict[str, Any]:
    """Return botocore's connection pools by scheme, with connections that wait as long for sending as for an answer.

    urllib3 sends a body under the timeout for connecting, on a new connection and on a used one. On a slow line that other
    transfers share, a piece may take longer.
    """
    from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool

    return {"http": _pool(AWSHTTPConnectionPool), "https": _pool(AWSHTTPSConnectionPool)}


def _pool(kind: Any) -> Any:  # noqa: ANN401 - as above
    def connect(connection: Any) -> None:  # noqa: ANN401 - as above
        kind.ConnectionCls.connect(connection)
        connection.sock.settimeout(READ_TIMEOUT_S)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # a slow line would empty megabytes in the kernel while the server's silence counts
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)

    def request(connection: Any, *words: Any, **options: Any) -> None:  # noqa: ANN401 - as above
        if connection.sock is not None:
            connection.timeout = READ_TIMEOUT_S
        kind.ConnectionCls.request(connection, *words, **options)

    def send(connection: Any, data: Any) -> None:  # noqa: ANN401 - as above
        kind.ConnectionCls.send(connection, data)
        if isinstance(data, bytes | bytearray | memoryview):
            note_sent(len(data))

    connection = type("Connection", (kind.ConnectionCls,), {"connect": connect, "request": request, "send": send})
    return type("ConnectionPool", (kind,), {"ConnectionCls": connection})


def _stay(context: dict[str, Any], **_kwargs: object) -> None:
    """Keep a request at the given endpoint: where a proxy redirects, botocore's region redirector recurses without end."""
    context.setdefault("s3_redirect", {})["redirected"] = True


@functools.cache
def _loader(data_path: str | None) -> Any:  # noqa: ANN401 - as above
    """It keeps what it has read."""
    from botocore.loaders import create_loader

    return create_loader(data_path)
