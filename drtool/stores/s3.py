"""A target that is a bucket, or a prefix of one, behind the S3 API. Its register uses conditional puts.

Invariants
    A put is durable when the server confirms it. A body shorter than announced is an error, never an object.
    The client sends each request once. The layer above decides about retries, because it knows what may be repeated. A
    conditional put repeated by the client could meet its own bytes and take them for those of another writer.
    A refused condition (404, 409, 412) only means that the object is not known to be ours. Read again.

No upload is split: the largest object that drtool writes is a pack, a little over 16 MiB, and S3 accepts 5 GiB in one put.
Requests are signed with the SHA-256 of the body, which the server compares. Each put also carries Content-MD5: Amazon refuses
a put without it in a bucket with a default retention by object lock, and every other server accepts it.
An answer that is not from S3 (a captive portal, HTML, a missing ETag, an endless redirect) is a failure of that target. It
never counts as an empty listing, as stored, or as an object's bytes.

Source: Amazon S3 API reference, "Conditional requests"; botocore's `request_checksum_calculation` (servers other than Amazon's
do not all support the checksums that it sends otherwise).
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
"""The limit for tagged reads. A register's record has at most 1 MiB."""


class S3Store:
    """Objects below a prefix of a bucket. Thread-safe."""

    ends_when_silent = True

    def __init__(self, place: S3Place, client: Any) -> None:  # noqa: ANN401 - botocore makes its clients at run time
        """Use `open`."""
        self.place = place
        self._client = client

    @classmethod
    def unasked(cls, place: S3Place) -> "S3Store":
        """Return the target at `place` without contacting it. The first call shows whether it exists."""
        return cls(place, connect(place))

    @classmethod
    def open(cls, place: S3Place) -> "S3Store":
        """Open the target at `place`. Raises TargetOffline if there is no such bucket, or no answer."""
        store = cls.unasked(place)
        store.look()
        return store

    def look(self) -> None:
        """Raise TargetOffline if there is no such bucket. HEAD is not used, because its answer has no body with a reason."""
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
        """Return the size from a listing. The answer to HEAD has no body, so its 404 may come from a proxy."""
        for row in self.list(name):
            if row.name == name:
                return row.size_bytes
            break
        raise ObjectMissing(f"{self._where(name)} does not exist")

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        root, wanted = self.place.prefix, {"Bucket": self.place.bucket, "Prefix": self.place.prefix + prefix}
        earlier = _earlier(start_after)
        if earlier.startswith(prefix) and earlier:
            wanted["StartAfter"] = root + earlier
        elif start_after > prefix and not start_after.startswith(prefix):
            return  # all names with this prefix sort before it
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
        """Yield the keys with their sizes, one page at a time."""
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
        """Return the names at the prefix. For a directory-like prefix, this is its name."""
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
        """Accept any size. A bucket does not report free space; a quota refuses the object that exceeds it."""

    def server_time_s(self) -> float | None:
        """Return the server's clock in seconds since 1970, from the date of an answer or a refusal."""
        with self._translated("", writing=False):
            try:
                answer = self._client.list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.prefix, MaxKeys=1)
            except self._client.exceptions.ClientError as error:
                answer = error.response
        return dated(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", ""))

    def keeps_versions(self) -> bool | None:
        """Return whether deleted and replaced objects remain as older versions. None if these credentials may not read it."""
        return self._told(
            lambda: self._client.get_bucket_versioning(Bucket=self.place.bucket).get("Status") == "Enabled"
        )

    def keeps_locked(self) -> bool | None:
        """Return whether objects are locked against deletion for a time. None as above."""

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
        """Do nothing: a bucket shows only complete objects, and we send no object in parts."""

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
                raise StoreError(f"{self._where(name)} is larger than a register's record can be, so it is not read")
            return Tagged(data=self._whole(name, answer), tag=_tag(answer))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        if self.mode != "cas":
            raise StoreError(f"{self._where(name)}: this register is a chain and has no compare and swap")
        return self._swap(name, data, {"IfNoneMatch": "*"} if expected_tag is None else {"IfMatch": expected_tag})

    def _swap(self, name: str, data: bytes, condition: dict[str, str]) -> str | None:
        """Return the new token, or None if the condition did not hold."""
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
            raise TargetOffline(f"{self._where(name)}: only {len(data)} of {announced_bytes} bytes arrived")
        return data[start:] if ignored else data

    def _has_class(self, name: str) -> bool:
        return self.place.storage_class is not None and name.startswith("packs/")

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self.place.prefix + name}

    def _where(self, name: str) -> str:
        return f"s3://{self.place.bucket}/{self.place.prefix}{name}"

    @contextmanager
    def _translated(self, name: str, *, writing: bool) -> Iterator[None]:
        """Convert exceptions of botocore and the network within the block to a `StoreError` that names the object."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            absent = FileNotFoundError(name) if code(error) == "NoSuchBucket" else error
            raise meaning(error, self._where(name), writing=writing) from absent
        except BotoCoreError as error:
            raise failure(error, self._where(name), self.place.endpoint, writing=writing) from error
        except (HTTPError, OSError) as error:  # while reading a body
            kind = TargetUnanswered if writing else TargetOffline
            raise kind(f"{self._where(name)}: the connection broke off: {error}") from error
        except DrtoolError:
            raise
        except Exception as error:  # botocore fails on invalid answers in many ways, even with a RecursionError
            raise nonsense(error, self._where(name), writing=writing) from error


def _tag(answer: dict[str, Any]) -> str:
    """Return the object's ETag, which every S3 server sends. Raises KeyError if the answer is not from S3."""
    return str(answer["ETag"])


def _checked_listing(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a listing. Raises KeyError if it has no field of a listing, rather than guessing an empty one."""
    if not answer.keys() & {"Name", "Prefix", "KeyCount", "MaxKeys", "IsTruncated"}:
        raise KeyError("ListBucketResult")
    return answer


def _check_start(content_range: str, start: int) -> None:
    """Raise ValueError if the server sent another part of the object than requested."""
    if not content_range.removeprefix("bytes ").startswith(f"{start}-"):
        raise ValueError(f"asked for bytes from {start}, but got {content_range}")


def _md5(body: Buffer) -> str:
    """Return the value of the Content-MD5 header (RFC 1864)."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _earlier(start_after: str) -> str:
    """Return a name to start after that is a little earlier; names that come too early are skipped.

    A server that walks directories (SeaweedFS) treats the name of a directory as all of its contents, and would omit them.
    """
    return start_after.rstrip("-./")[:-1]


class _Body:
    """A large body as a file, sent in pieces.

    The timeout of a socket applies to one piece. For a body sent as a whole, it would bound the time of the whole transfer.
    """

    def __init__(self, data: Buffer) -> None:
        self._data, self._at = memoryview(data).cast("B"), 0

    def __len__(self) -> int:
        return self._data.nbytes

    def read(self, size: int = -1) -> memoryview:
        """Return at least a piece, even if the HTTP client asks for less."""
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
    """Return a body that botocore can sign and send, because it accepts no memory views."""
    if memoryview(data).nbytes > PIECE_BYTES:
        return _Body(data)
    return data if isinstance(data, bytes) else bytes(data)
