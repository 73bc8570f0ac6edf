"""A target that is a bucket, or a part of one, behind the S3 API; a register by conditional puts.

Invariants
    A put is durable when the server says so. A body that arrives shorter than announced is an error, never an object.
    The client asks each thing once: whether to ask again is decided above, where it is known what may be repeated. A conditional
    put that the client itself repeated could meet its own bytes and take them for somebody else's.
    A refused condition (404, 409, 412) only means: it is not known to be yours; read again.

boto3 is imported when the first bucket is opened: it takes a quarter of a second.
Source: Amazon S3 API reference, "Conditional requests"; botocore's `request_checksum_calculation` (servers other than Amazon's
do not all know the checksums that it sends otherwise).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from drtool.errors import (
    ObjectMissing,
    StoreError,
    TargetFull,
    TargetOffline,
    TargetReadOnly,
    TargetUnanswered,
    UsageError,
)
from drtool.model import ObjectInfo
from drtool.stores.names import check_name, is_object_name
from drtool.stores.ports import Buffer, Mode, Tagged
from drtool.stores.probing import verdict_by_probe
from drtool.stores.voting import VoteVerdict

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
CONNECTIONS_MAX = 32
NAMES_MAX = 10_000
NOT_FOUND = 404
TAGGED_BYTES_MAX = 4 << 20
"""What is read with its tag is a register's record, 1 MiB at most."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.ASCII)
_ABSENT = "NoSuchKey"
"""Only S3 itself says that. A 404 without a body may be a proxy's, and is confirmed by a listing where it matters."""
_REFUSED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNKNOWN_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_NOT_ALLOWED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_BUSY = frozenset(
    {"SlowDown", "Throttling", "RequestTimeout", "TooManyRequests", "InternalError", "ServiceUnavailable"}
)


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


class S3Store:
    """Objects below a prefix of a bucket; may be used by several threads at once."""

    def __init__(self, place: S3Place, client: Any) -> None:  # noqa: ANN401 - botocore makes its clients at run time
        """Use `open`."""
        self.place = place
        self._client = client

    @classmethod
    def unasked(cls, place: S3Place) -> "S3Store":
        """The target at `place`, before anybody knows whether it is there: the first call tells."""
        return cls(place, _client(place))

    @classmethod
    def open(cls, place: S3Place) -> "S3Store":
        """The target at `place`. `TargetOffline` if there is no such bucket, or nobody answers."""
        store = cls.unasked(place)
        store.look()
        return store

    def look(self) -> None:
        """`TargetOffline` if there is no such bucket. Not by HEAD, whose answer has no body and says nothing but a number."""
        with self._translated("", writing=False):
            self._client.list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.prefix, MaxKeys=1)

    @property
    def mode(self) -> Mode:
        return self.place.register_mode

    def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        more = {"StorageClass": self.place.storage_class} if self._has_class(name) else {}
        with self._translated(name, writing=True):
            self._client.put_object(**self._key(name), Body=_body(data), **more)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        if length == 0:
            self.stat(name)
            return b""
        last = "" if length is None else str(start + length - 1)
        span = {} if start == 0 and length is None else {"Range": f"bytes={start}-{last}"}
        with self._translated(name, writing=False):
            try:
                answer = self._client.get_object(**self._key(name), **span)
            except self._client.exceptions.ClientError as error:
                if _code(error) not in ("InvalidRange", "416"):
                    raise
                return b""  # it ends before `start`
            return self._whole(name, answer)[:length]

    def stat(self, name: str) -> int:
        check_name(name)
        with self._translated(name, writing=False):
            try:
                return int(self._client.head_object(**self._key(name))["ContentLength"])
            except self._client.exceptions.ClientError as error:
                if _status(error) != NOT_FOUND:
                    raise
        return self._listed_size(name)

    def _listed_size(self, name: str) -> int:
        """The size by a listing: the answer to HEAD has no body, so its 404 may be anybody's."""
        for row in self.list(name):
            if row.name == name:
                return row.size_bytes
            break
        raise ObjectMissing(f"{self._where(name)} is not there")

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        root, wanted = self.place.prefix, {"Bucket": self.place.bucket, "Prefix": self.place.prefix + prefix}
        earlier = _earlier(start_after)
        if earlier.startswith(prefix) and earlier:
            wanted["StartAfter"] = root + earlier
        elif start_after > prefix and not start_after.startswith(prefix):
            return  # whatever begins with `prefix` sorts before it
        last = start_after
        while True:
            with self._translated(prefix, writing=False):
                page = self._client.list_objects_v2(**wanted)
            for row in page.get("Contents", ()):
                name = row["Key"][len(root) :]
                if not row["Key"].startswith(root + prefix) or not is_object_name(name):
                    continue
                if name <= start_after:
                    continue
                if name <= last:
                    raise StoreError(
                        f"{self._where(name)} is listed after {last!r}: this server does not sort its listings",
                        hint="drtool needs listings that are sorted by the bytes of the whole name, as S3 promises",
                    )
                last = name
                yield ObjectInfo(name, int(row["Size"]))
            if not page.get("IsTruncated"):
                return
            wanted = {**wanted, "ContinuationToken": page["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        check_name(name)
        with self._translated(name, writing=True):
            try:
                self._client.delete_object(**self._key(name))
            except self._client.exceptions.ClientError as error:
                if _code(error) != _ABSENT:
                    raise

    def names(self) -> Sequence[str]:
        """What lies at the prefix; of what looks like a directory, its name."""
        found: set[str] = set()
        wanted = {"Bucket": self.place.bucket, "Prefix": self.place.prefix, "Delimiter": "/"}
        while True:
            with self._translated("", writing=False):
                page = self._client.list_objects_v2(**wanted)
            rows = [row["Key"] for row in page.get("Contents", ())]
            rows += [row["Prefix"] for row in page.get("CommonPrefixes", ())]
            found.update(row[len(self.place.prefix) :].rstrip("/") for row in rows if row != self.place.prefix)
            if not page.get("IsTruncated") or len(found) > NAMES_MAX:
                return sorted(found)
            wanted = {**wanted, "ContinuationToken": page["NextContinuationToken"]}

    def vote_verdict(self) -> VoteVerdict:
        return verdict_by_probe(self, "s3")

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self._client.close()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._swap(name, data, {"IfNoneMatch": "*"}) is not None

    def read_tagged(self, name: str) -> Tagged | None:
        check_name(name)
        with self._translated(name, writing=False):
            try:
                answer = self._client.get_object(**self._key(name))
            except self._client.exceptions.ClientError as error:
                if _code(error) == _ABSENT:
                    return None
                raise
            if answer.get("ContentLength", 0) > TAGGED_BYTES_MAX:
                answer["Body"].close()
                raise StoreError(f"{self._where(name)} is larger than a register's record can be; it is not read")
            return Tagged(data=self._whole(name, answer), tag=answer["ETag"])

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        if self.mode != "cas":
            raise StoreError(f"{self._where(name)}: this register is a chain and has no compare and swap")
        return self._swap(name, data, {"IfNoneMatch": "*"} if expected_tag is None else {"IfMatch": expected_tag})

    def _swap(self, name: str, data: bytes, condition: dict[str, str]) -> str | None:
        """The new token, or None if the condition did not hold."""
        check_name(name)
        with self._translated(name, writing=True):
            try:
                return str(self._client.put_object(**self._key(name), Body=data, **condition)["ETag"])
            except self._client.exceptions.ClientError as error:
                if _code(error) in _REFUSED or _status(error) == NOT_FOUND:
                    return None
                raise

    def _whole(self, name: str, answer: dict[str, Any]) -> bytes:
        announced_bytes = answer.get("ContentLength")
        with answer["Body"] as body:
            data = bytes(body.read())
        if len(data) != announced_bytes:
            raise TargetOffline(f"{self._where(name)}: {len(data)} of {announced_bytes} bytes came")
        return data

    def _has_class(self, name: str) -> bool:
        return self.place.storage_class is not None and name.startswith("packs/")

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self.place.prefix + name}

    def _where(self, name: str) -> str:
        return f"s3://{self.place.bucket}/{self.place.prefix}{name}"

    @contextmanager
    def _translated(self, name: str, *, writing: bool) -> Iterator[None]:
        """Within it, what botocore and the network raise becomes a `StoreError` that names the object."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            absent = FileNotFoundError(name) if _code(error) == "NoSuchBucket" else error
            raise _meaning(error, self._where(name), writing=writing) from absent
        except BotoCoreError as error:
            raise _failure(error, self._where(name), self.place, writing=writing) from error
        except (HTTPError, OSError) as error:  # in the middle of a body
            kind = TargetUnanswered if writing else TargetOffline
            raise kind(f"{self._where(name)}: the connection broke off: {error}") from error


def _client(place: S3Place) -> Any:  # noqa: ANN401 - as above
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    path_style = place.endpoint is not None if place.path_style is None else place.path_style
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=CONNECTIONS_MAX,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path" if path_style else "auto"},
    )
    try:
        session = Session(profile_name=place.profile, region_name=place.region)
        region = session.region_name or "us-east-1"
        return session.client("s3", endpoint_url=place.endpoint, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise _failure(error, f"s3://{place.bucket}/{place.prefix}", place, writing=False) from error


def _earlier(start_after: str) -> str:
    """A name to start after that is a little before: a server that walks directories takes the name of one for all that is
    in it (SeaweedFS), and would leave that out. What comes too early is passed over.
    """
    return start_after.rstrip("-./")[:-1]


def _body(data: Buffer) -> bytes | bytearray:
    """What botocore can sign and send: it takes no memory views."""
    return data if isinstance(data, bytes | bytearray) else bytes(data)


def _code(error: "ClientError") -> str:
    """The error's code; of an answer without a body, as to HEAD, its status."""
    answer: dict[str, Any] = error.response
    return str(answer.get("Error", {}).get("Code") or answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def _status(error: "ClientError") -> int:
    answer: dict[str, Any] = error.response
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _meaning(error: "ClientError", where: str, *, writing: bool) -> StoreError:
    """The error of ours that the server's answer stands for."""
    answer: dict[str, Any] = error.response
    code, status = _code(error), _status(error)
    said = str(answer.get("Error", {}).get("Message") or code)
    if code == "NoSuchBucket":
        return TargetOffline(f"{where}: there is no such bucket", hint="check the URL and the endpoint")
    if code == _ABSENT:
        return ObjectMissing(f"{where} is not there")
    if code in _UNKNOWN_KEYS:
        return StoreError(
            f"{where}: the server does not accept these credentials ({code})",
            hint="check the profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and for whom they are",
        )
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{where}: this host's clock differs too much from the server's", hint="set the clock")
    if code in _NOT_ALLOWED:
        kind = TargetReadOnly if writing else StoreError
        return kind(f"{where}: these credentials may not do that ({said})", hint="check the bucket's policy")
    if code in _FULL or status == 507:
        return TargetFull(f"{where} has no room left: {said}", hint="raise the quota, or add a target")
    if code in _BUSY or status >= 500 or status == 429:
        kind = TargetUnanswered if writing else TargetOffline  # some fail after they have done it
        return kind(f"{where}: the server is busy or failing: {said}")
    if status == NOT_FOUND:
        return TargetOffline(
            f"{where}: what answers there does not speak S3: {said}",
            hint="check the endpoint, and whatever stands before it",
        )
    return StoreError(f"{where} failed: {said}")


def _failure(error: Exception, where: str, place: S3Place, *, writing: bool) -> StoreError:
    """The error of ours that a failure before any answer stands for."""
    from botocore import exceptions

    without_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.CredentialRetrievalError,
    )
    never_sent = (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ProxyConnectionError,
        exceptions.SSLError,
    )
    broken_off = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.ResponseStreamingError,
    )

    if isinstance(error, without_credentials):
        return StoreError(
            f"{where}: there are no credentials for it: {error}",
            hint="name a `profile`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if isinstance(error, broken_off):
        kind = TargetUnanswered if writing and not isinstance(error, never_sent) else TargetOffline
        return kind(
            f"{where} cannot be reached: {_reason(error)}",
            hint=f"check the network and {place.endpoint or 'the region'}",
        )
    return StoreError(f"{where} failed: {error}")


def _reason(error: Exception) -> str:
    """What went wrong on the way, without the URL that botocore puts behind it."""
    return re.sub(r" ?(?:URL|to|for)?:? ?\"?https?://\S+", "", str(error)).strip(' .:"') or type(error).__name__
