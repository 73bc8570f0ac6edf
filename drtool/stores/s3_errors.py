"""What a bucket's answers, and the lack of one, mean for a target.

Invariants
    Absent is only what the server itself says is absent, in words of its own: any proxy can answer 404.
    A write that was sent and has no answer, or that the server failed at, is `TargetUnanswered`: it may have been done. Only what
    certainly was not sent, or was refused before it was done, is a plain `TargetOffline`.
"""

import re
import time
from typing import TYPE_CHECKING, Any

from drtool.errors import (
    ObjectMissing,
    StoreError,
    TargetBusy,
    TargetFull,
    TargetOffline,
    TargetReadOnly,
    TargetUnanswered,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

NOT_FOUND = 404
TOO_MANY = 429
NO_ROOM = 507
ABSENT = "NoSuchKey"
"""Only S3 itself says that. A 404 without a body may be a proxy's, and is confirmed by a listing where it matters."""
REFUSED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNKNOWN_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_NOT_ALLOWED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_BUSY = frozenset(
    {"SlowDown", "Throttling", "RequestTimeout", "TooManyRequests", "InternalError", "ServiceUnavailable"}
)
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"})
"""The server compares what came with the SHA-256 that the request is signed with."""
_ELSEWHERE = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "TemporaryRedirect", "307"})

SECONDS_DIGITS_MAX = 6
SAID_MAX = 300
"""Characters of a server's own words that a message repeats."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def code(error: "ClientError") -> str:
    """The error's code; of an answer without a body, as to HEAD, its status."""
    answer: dict[str, Any] = error.response
    return str(answer.get("Error", {}).get("Code") or answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def status(error: "ClientError") -> int:
    answer: dict[str, Any] = error.response
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def meaning(error: "ClientError", where: str, *, writing: bool) -> StoreError:
    """The error of ours that the server's answer stands for."""
    answer: dict[str, Any] = error.response
    name, number = code(error), status(error)
    said = _one_line(answer.get("Error", {}).get("Message") or name)
    if name == ABSENT:
        return ObjectMissing(f"{where} is not there")
    if name in _NOT_ALLOWED:
        kind = TargetReadOnly if writing else StoreError
        return kind(f"{where}: these credentials may not do that ({said})", hint="check the bucket's policy")
    if name in _FULL or number == NO_ROOM:
        return TargetFull(f"{where} has no room left: {said}", hint="raise the quota, or add a target")
    if name in _DAMAGED:
        return TargetOffline(f"{where}: what was sent arrived damaged, and was refused: {said}")
    if name in _BUSY or number >= 500 or number == TOO_MANY:
        kind = TargetUnanswered if writing else TargetBusy  # some fail after they have done it
        return kind(f"{where}: the server is busy or failing: {said}", retry_after_s=_retry_after_s(answer))
    return _misconfigured(error, where, name) or _unclear(where, number, said)


def _retry_after_s(answer: dict[str, Any]) -> float:
    """Return the seconds of the header Retry-After (RFC 9110, 10.2.3), counted from the server's own date; 0 without one."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    text = str(headers.get("retry-after", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:SECONDS_DIGITS_MAX])
    until_s = dated(text)
    now_s = dated(headers.get("date", "")) or time.time()
    return 0.0 if until_s is None else max(0.0, until_s - now_s)


def dated(text: str) -> float | None:
    """Return a date of HTTP in seconds since 1970; None if it is none."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _misconfigured(error: "ClientError", where: str, name: str) -> StoreError | None:
    """What a person must set right."""
    if name == "NoSuchBucket":
        return TargetOffline(f"{where}: there is no such bucket", hint="check the URL and the endpoint")
    if name in _UNKNOWN_KEYS:
        return StoreError(
            f"{where}: the server does not accept these credentials ({name})",
            hint="check the profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and for whom they are",
        )
    if name == "RequestTimeTooSkewed":
        return StoreError(f"{where}: this host's clock differs too much from the server's", hint="set the clock")
    region = _region(error)
    if name in _ELSEWHERE and (region or not name.isdigit()):
        return StoreError(
            f"{where}: the bucket is in another region{region and f', {region}'}",
            hint=f"set the target's region to {region or 'that of the bucket'}",
        )
    if name == "InvalidObjectState":
        return StoreError(
            f"{where} is in cold storage and cannot be read as it is",
            hint="restore it from there first, then try again",
        )
    return None


def nonsense(error: Exception, where: str, *, writing: bool) -> StoreError:
    """Return the error of ours for an answer that botocore, or we, cannot make sense of. A write may have been done."""
    kind = TargetUnanswered if writing else TargetOffline
    if isinstance(error, KeyError):
        what = f"it has no {error.args[0]}"
    else:
        what = ": ".join(filter(None, (type(error).__name__, _one_line(error))))
    return kind(
        f"{where}: the answer is not one of an S3 server ({what})",
        hint="check the endpoint, and any proxy or captive portal before it",
    )


def _unclear(where: str, number: int, said: str) -> StoreError:
    if number in _REDIRECTS:
        return TargetOffline(
            f"{where}: the server redirects to another address ({number}), which drtool does not follow",
            hint="set `endpoint` to the address that answers, with its scheme (https://)",
        )
    if number == NOT_FOUND:
        return TargetOffline(
            f"{where}: what answers there does not speak S3: {said}",
            hint="check the endpoint, and whatever stands before it",
        )
    return StoreError(f"{where} failed: {said}")


def _region(error: "ClientError") -> str:
    """Where the bucket is, if the answer says so."""
    answer: dict[str, Any] = error.response
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", ""))


def failure(error: Exception, where: str, endpoint: str | None, *, writing: bool) -> StoreError:
    """The error of ours that a failure before any answer stands for."""
    from botocore import exceptions

    without_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.CredentialRetrievalError,
    )
    never_sent = (  # an SSLError may come in the midst of an answer
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ProxyConnectionError,
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
            hint=f"check the network and {endpoint or 'the region'}",
        )
    return StoreError(f"{where} failed: {_one_line(error)}")


def _one_line(said: object) -> str:
    """Return the first line of what a server or a library said, of bounded length."""
    return next(iter(str(said).strip().splitlines()), "")[:SAID_MAX]


def _reason(error: Exception) -> str:
    """Return what went wrong on the way, without the URL that botocore puts behind it."""
    if _is_stalled(error):
        return "it neither took nor sent any data for a minute"
    return re.sub(r" ?(?:URL|to|for)?:? ?\"?https?://\S+", "", _one_line(error)).strip(' .:"') or type(error).__name__


def _is_stalled(error: Exception) -> bool:
    """Return whether a timeout ended the request: botocore calls one while it sends a closed connection."""
    from botocore.exceptions import ReadTimeoutError

    inner = getattr(error, "kwargs", {}).get("error")
    return isinstance(error, ReadTimeoutError) or any(
        isinstance(part, TimeoutError) for part in getattr(inner, "args", ())
    )
