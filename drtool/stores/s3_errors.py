"""The meaning of a bucket's answers, and of missing answers, for a target.

Invariants
    Only the server's own error code proves absence, because any proxy can answer 404.
    A write that was sent and has no answer, or at which the server failed, is `TargetUnanswered`: it may have taken effect. Only
    a request that was certainly not sent, or was refused before it took effect, is a plain `TargetOffline`.
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
"""Only S3 itself sends this code. A 404 without a body may come from a proxy, and is confirmed by a listing if it matters."""
REFUSED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNKNOWN_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_NOT_ALLOWED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_BUSY = frozenset(
    {"SlowDown", "Throttling", "RequestTimeout", "TooManyRequests", "InternalError", "ServiceUnavailable"}
)
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"})
"""The server compares the received bytes with the SHA-256 that the request is signed with."""
_ELSEWHERE = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "TemporaryRedirect", "307"})

SECONDS_DIGITS_MAX = 6
SAID_MAX = 300
"""The number of characters of a server's message that are repeated in ours."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def code(error: "ClientError") -> str:
    """Return the error's code. For an answer without a body, as to HEAD, this is its status."""
    answer: dict[str, Any] = error.response
    return str(answer.get("Error", {}).get("Code") or answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def status(error: "ClientError") -> int:
    answer: dict[str, Any] = error.response
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def meaning(error: "ClientError", where: str, *, writing: bool) -> StoreError:
    """Return our error for the server's answer."""
    answer: dict[str, Any] = error.response
    name, number = code(error), status(error)
    said = _one_line(answer.get("Error", {}).get("Message") or name)
    if name == ABSENT:
        return ObjectMissing(f"{where} does not exist")
    if name in _NOT_ALLOWED:
        kind = TargetReadOnly if writing else StoreError
        return kind(f"{where}: these credentials may not do that ({said})", hint="check the bucket's policy")
    if name in _FULL or number == NO_ROOM:
        return TargetFull(f"{where} has no room left: {said}", hint="raise the quota, or add a target")
    if name in _DAMAGED:
        return TargetOffline(f"{where}: the data arrived damaged, and was refused: {said}")
    if name in _BUSY or number >= 500 or number == TOO_MANY:
        kind = TargetUnanswered if writing else TargetBusy  # some servers fail after performing the request
        return kind(f"{where}: the server is busy or failing: {said}", retry_after_s=_retry_after_s(answer))
    return _misconfigured(error, where, name) or _unclear(where, number, said)


def _retry_after_s(answer: dict[str, Any]) -> float:
    """Return the seconds of the header Retry-After (RFC 9110, 10.2.3), relative to the server's own date, or 0 without one."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    text = str(headers.get("retry-after", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:SECONDS_DIGITS_MAX])
    until_s = dated(text)
    now_s = dated(headers.get("date", "")) or time.time()
    return 0.0 if until_s is None else max(0.0, until_s - now_s)


def dated(text: str) -> float | None:
    """Return an HTTP date in seconds since 1970, or None if it is invalid."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _misconfigured(error: "ClientError", where: str, name: str) -> StoreError | None:
    """Return the error of a configuration that the user must correct, or None."""
    if name == "NoSuchBucket":
        return TargetOffline(f"{where}: there is no such bucket", hint="check the URL and the endpoint")
    if name in _UNKNOWN_KEYS:
        return StoreError(
            f"{where}: the server does not accept these credentials ({name})",
            hint="check the profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the account they belong to",
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
    """Return our error for an answer that botocore or drtool cannot interpret. A write may have taken effect."""
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
            f"{where}: the server there is not an S3 server: {said}",
            hint="check the endpoint, and any proxy before it",
        )
    return StoreError(f"{where} failed: {said}")


def _region(error: "ClientError") -> str:
    """Return the region of the bucket if the answer contains it."""
    answer: dict[str, Any] = error.response
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", ""))


def failure(error: Exception, where: str, endpoint: str | None, *, writing: bool) -> StoreError:
    """Return our error for a failure before any answer."""
    from botocore import exceptions

    without_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.CredentialRetrievalError,
    )
    never_sent = (  # an SSLError may also occur during an answer
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
    """Return the first line of a message of a server or library, with bounded length."""
    return next(iter(str(said).strip().splitlines()), "")[:SAID_MAX]


def _reason(error: Exception) -> str:
    """Return the reason of a connection failure, without the URL that botocore appends."""
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
