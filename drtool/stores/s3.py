"""A target that is a bucket, or a part of one, behind the S3 API; a register by conditional puts.

Invariants
    A put is durable when the server says so. A body that arrives shorter than announced is an error, never an object.
    The client asks each thing once: whether to ask again is decided above, where it is known what may be repeated. A conditional
    put that the client itself repeated could meet its own bytes and take them for somebody else's.
    A refused condition (404, 409, 412) only means: it is not known to be yours; read again.

    No upload is split: the largest object that drtool writes is a pack, 16 MiB and some, and S3 takes 5 GiB in one put.
    What is sent is signed with its SHA-256, which the server compares. Each put also carries Content-MD5: Amazon refuses a put
    without it in a bucket whose object lock has a default retention, and every other server accepts it.
    An answer that is not S3's (a captive portal, HTML, a missing ETag, an endless redirect) is that target's failure. It never
    counts as an empty listing, as stored, or as an object's bytes.

Source: Amazon S3 API reference, "Conditional requests"; botocore's `request_checksum_calculation` (servers other than Amazon's
do not all know the checksums that it sends otherwise).
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from drtool.errors import (
    DrtoolError,
    ObjectMissing,
    StoreError,
    TargetOffline,
    TargetUnanswered,
)
from drtool.model import ObjectInfo
from drtool.stores.names import check_name, is_object_name
from drtool.stores.ports import Buffer, Mode, Tagged
from drtool.stores.probing import verdict_by_probe
from drtool.stores.s3_client import S3Place, connect, s3_place
from drtool.stores.s3_errors import ABSENT, NOT_FOUND, REFUSED, code, dated, failure, meaning, nonsense, status
from drtool.stores.voting import VoteVerdict

__all__ = ["S3Place", "S3Store", "s3_place"]

NAMES_MAX = 10_000
PIECE_BYTES = 64 << 10
TAGGED_BYTES_MAX = 4 << 20
"""What is read with its tag is a register's record, 1 MiB at most."""


class S3Store:
    """Objects below a prefix of a bucket; may be used by several threads at once."""

    ends_when_silent = True

    def __init__(self, place: S3Place, client: Any) -> None:  # noqa: ANN401 - botocore makes its clients at run time
        """Use `open`."""
        self.place = place
        self._client = client

    @classmethod
    def unasked(cls, place: S3Place) -> "S3Store":
        """The target at `place`, before anybody knows whether it is there: the first call tells."""
        return cls(place, connect(place))

    @classmethod
    def open(cls, place: S3Place) -> "S3Store":
        """The target at `place`. `TargetOffline` if there is no such bucket, or nobody answers."""
        store = cls.unasked(place)
        store.look()
        return store

    def look(self) -> None:
        """`TargetOffline` if there is no such bucket. Not by HEAD, whose answer has no body and says nothing but a number."""
        with self._translated("", writing=False):
            wanted = {"Bucket": self.place.bucket, "Prefix": self.place.prefix, "MaxKeys": 1}
            _checked_listing(self._client.list_objects_v2(**wanted))

    @property
    def mode(self) -> Mode:
        return self.place.register_mode

    def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        more = {"StorageClass": self.place.storage_class} if self._has_class(name) else {}
        with self._translated(name, writing=True):
            answer = self._client.put_object(**self._key(name), Body=_body(data), ContentMD5=_md5(data), **more)
            _tag(answer)

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
                if code(error) not in ("InvalidRange", "416"):
                    raise
                return b""  # it ends before `start`
            return self._whole(name, answer, start)[:length]

    def stat(self, name: str) -> int:
        check_name(name)
        with self._translated(name, writing=False):
            try:
                answer = self._client.head_object(**self._key(name))
                _tag(answer)
                return int(answer["ContentLength"])
            except self._client.exceptions.ClientError as error:
                if status(error) != NOT_FOUND:
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
        for page in self._pages(wanted, prefix):
            for key, size_bytes in page:
                name = key[len(root) :]
                if not key.startswith(root + prefix) or not is_object_name(name) or name <= start_after:
                    continue
                if name <= last:
                    raise StoreError(
                        f"{self._where(name)} is listed after {last!r}: this server does not sort its listings",
                        hint="drtool needs listings that are sorted by the bytes of the whole name, as S3 promises",
                    )
                last = name
                yield ObjectInfo(name, size_bytes)

    def _pages(self, wanted: dict[str, Any], prefix: str) -> Iterator[Sequence[tuple[str, int]]]:
        """Yield the keys with their sizes, a page at a time."""
        while True:
            with self._translated(prefix, writing=False):
                answer = _checked_listing(self._client.list_objects_v2(**wanted))
                rows = [(str(row["Key"]), int(row["Size"])) for row in answer.get("Contents", ())]
                more = answer["NextContinuationToken"] if answer.get("IsTruncated") else None
            yield rows
            if more is None:
                return
            wanted = {**wanted, "ContinuationToken": more}

    def delete(self, name: str) -> None:
        check_name(name)
        with self._translated(name, writing=True):
            try:
                self._client.delete_object(**self._key(name))
            except self._client.exceptions.ClientError as error:
                if code(error) != ABSENT:
                    raise

    def names(self) -> Sequence[str]:
        """What lies at the prefix; of what looks like a directory, its name."""
        found: set[str] = set()
        wanted = {"Bucket": self.place.bucket, "Prefix": self.place.prefix, "Delimiter": "/"}
        while True:
            with self._translated("", writing=False):
                page = _checked_listing(self._client.list_objects_v2(**wanted))
                rows = [row["Key"] for row in page.get("Contents", ())]
                rows += [row["Prefix"] for row in page.get("CommonPrefixes", ())]
                more = page["NextContinuationToken"] if page.get("IsTruncated") else None
            found.update(row[len(self.place.prefix) :].rstrip("/") for row in rows if row != self.place.prefix)
            if more is None or len(found) > NAMES_MAX:
                return sorted(found)
            wanted = {**wanted, "ContinuationToken": more}

    def vote_verdict(self) -> VoteVerdict:
        return verdict_by_probe(self, "s3")

    def free_bytes(self) -> int | None:
        return None

    def try_room(self, size_bytes: int) -> None:
        """A bucket says nothing of its room; a quota refuses the object that goes over it."""

    def server_time_s(self) -> float | None:
        """The server's clock, in seconds since 1970, as it dates an answer; a refusal is dated as well."""
        with self._translated("", writing=False):
            try:
                answer = self._client.list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.prefix, MaxKeys=1)
            except self._client.exceptions.ClientError as error:
                answer = error.response
        return dated(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", ""))

    def keeps_versions(self) -> bool | None:
        """Whether what is deleted or replaced stays there as an older version; None if these credentials may not know."""
        return self._told(
            lambda: self._client.get_bucket_versioning(Bucket=self.place.bucket).get("Status") == "Enabled"
        )

    def keeps_locked(self) -> bool | None:
        """Whether objects are locked against deletion for a while; None as above."""

        def ask() -> bool:
            answer = self._client.get_object_lock_configuration(Bucket=self.place.bucket)
            return bool(answer.get("ObjectLockConfiguration", {}).get("Rule"))

        return self._told(ask)

    def _told(self, ask: Callable[[], bool]) -> bool | None:
        with self._translated("", writing=False):
            try:
                return ask()
            except self._client.exceptions.ClientError as error:
                return False if code(error) == "ObjectLockConfigurationNotFoundError" else None

    def sweep(self, directories: Sequence[str], older_than_s: float) -> None:
        """A bucket shows an object when it is whole; nothing of ours is sent in parts."""

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
                if code(error) == ABSENT:
                    return None
                raise
            if answer.get("ContentLength", 0) > TAGGED_BYTES_MAX:
                answer["Body"].close()
                raise StoreError(f"{self._where(name)} is larger than a register's record can be; it is not read")
            return Tagged(data=self._whole(name, answer), tag=_tag(answer))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        if self.mode != "cas":
            raise StoreError(f"{self._where(name)}: this register is a chain and has no compare and swap")
        return self._swap(name, data, {"IfNoneMatch": "*"} if expected_tag is None else {"IfMatch": expected_tag})

    def _swap(self, name: str, data: bytes, condition: dict[str, str]) -> str | None:
        """The new token, or None if the condition did not hold."""
        check_name(name)
        with self._translated(name, writing=True):
            try:
                return _tag(self._client.put_object(**self._key(name), Body=data, ContentMD5=_md5(data), **condition))
            except self._client.exceptions.ClientError as error:
                if code(error) in REFUSED or status(error) == NOT_FOUND:
                    return None
                raise

    def _whole(self, name: str, answer: dict[str, Any], start: int = 0) -> bytes:
        """Return the body, from byte `start` of the object on."""
        announced_bytes = answer.get("ContentLength")
        with answer["Body"] as body:
            _tag(answer)
            ignored = (
                start > 0 and "ContentRange" not in answer
            )  # by a server that knows no ranges and sends everything
            if start and not ignored:
                _check_start(answer["ContentRange"], start)
            data = bytes(body.read())
        if len(data) != announced_bytes:
            raise TargetOffline(f"{self._where(name)}: {len(data)} of {announced_bytes} bytes came")
        return data[start:] if ignored else data

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
            absent = FileNotFoundError(name) if code(error) == "NoSuchBucket" else error
            raise meaning(error, self._where(name), writing=writing) from absent
        except BotoCoreError as error:
            raise failure(error, self._where(name), self.place.endpoint, writing=writing) from error
        except (HTTPError, OSError) as error:  # in the middle of a body
            kind = TargetUnanswered if writing else TargetOffline
            raise kind(f"{self._where(name)}: the connection broke off: {error}") from error
        except DrtoolError:
            raise
        except Exception as error:  # botocore trips over answers in many ways, a RecursionError among them
            raise nonsense(error, self._where(name), writing=writing) from error


def _tag(answer: dict[str, Any]) -> str:
    """Return the object's ETag, which every S3 server gives. KeyError: something else answered."""
    return str(answer["ETag"])


def _checked_listing(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a listing's answer. KeyError: it has no field of a listing, so an empty one would be a guess."""
    if not answer.keys() & {"Name", "Prefix", "KeyCount", "MaxKeys", "IsTruncated"}:
        raise KeyError("ListBucketResult")
    return answer


def _check_start(content_range: str, start: int) -> None:
    """ValueError: the server sent another part of the object than the one that was asked for."""
    if not content_range.removeprefix("bytes ").startswith(f"{start}-"):
        raise ValueError(f"asked for bytes from {start}, and {content_range} came")


def _md5(body: Buffer) -> str:
    """Return the value of the Content-MD5 header (RFC 1864)."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _earlier(start_after: str) -> str:
    """A name to start after that is a little before: a server that walks directories takes the name of one for all that is
    in it (SeaweedFS), and would leave that out. What comes too early is passed over.
    """
    return start_after.rstrip("-./")[:-1]


class _Body:
    """A large body as a file, sent in pieces.

    A socket's timeout holds for one piece: of a body that is sent whole, it would bound the time of the whole transfer.
    """

    def __init__(self, data: Buffer) -> None:
        self._data, self._at = memoryview(data).cast("B"), 0

    def __len__(self) -> int:
        return self._data.nbytes

    def read(self, size: int = -1) -> memoryview:
        """Return at least a piece, whatever smaller size the HTTP client asks for."""
        end = len(self) if size < 0 else self._at + max(size, PIECE_BYTES)
        piece = self._data[self._at : end]
        self._at += piece.nbytes
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self))[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _body(data: Buffer) -> "bytes | _Body":
    """Return what botocore can sign and send: it takes no memory views."""
    if memoryview(data).nbytes > PIECE_BYTES:
        return _Body(data)
    return data if isinstance(data, bytes) else bytes(data)
