"""A small S3 server in this process that breaks one promise at a time, for what no honest server does on demand."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Literal[
    "none",
    "ignores conditions",
    "checks, then races",
    "races for tokens",
    "lists late",
    "503 every third request",
    "never answers",
    "503 to the first two of each",
    "503 with a time",
    "404 without a body",
    "404 of a proxy",
    "closes in mid-body",
    "does it and hangs up",
    "does it and says 500",
    "skewed clock",
    "wrong region",
    "in cold storage",
    "may not delete",
    "may not write",
    "ignores If-Match",
    "forgets what it wrote",
    "damages what arrives",
    "captive portal",
    "redirects",
    "has no conditions",
]
BUCKET = "bad"
LAG_S = 30.0
RACE_S = 0.05


class BadBucket:
    """One bucket; `fault` can be changed at any time. `asked` holds method and key of each request, in their order."""

    def __init__(self, fault: Fault = "none") -> None:
        self.fault = fault
        self.retry_after = "7"
        self.outage: tuple[str, str, float] | None = None
        """A method, or LIST, a part of the key, and seconds: with the first such request all are answered 503, for so long."""
        self._down_until = 0.0
        self.objects: dict[str, bytes] = {}
        self.put_at: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.connections = 0
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def is_down(self, method: str, key: str) -> bool:
        """Whether the outage lasts; it begins now if this is the request that it waits for."""
        with self.lock:
            if self.outage is not None and method == self.outage[0] and self.outage[1] in key:
                self._down_until = time.monotonic() + self.outage[2]
                self.outage = None
            return time.monotonic() < self._down_until

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextmanager
def bad_bucket(fault: Fault = "none") -> Iterator[BadBucket]:
    bucket = BadBucket(fault)
    try:
        yield bucket
    finally:
        bucket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, bucket: BadBucket) -> None:
        self.bucket = bucket
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request, client_address):
        self.bucket.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """Clients that hang up are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_args):
        """Nobody reads it."""

    def handle_expect_100(self):
        return self._bucket.fault == "never answers" or super().handle_expect_100()

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def _bucket(self) -> BadBucket:
        return self.server.bucket

    def _begin(self) -> tuple[str, dict[str, str], bool]:
        """The key, the query, and whether the answer has been given already."""
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").removeprefix("/")
        with self._bucket.lock:
            self._bucket.asked.append((self.command, key))
            self._bucket.headers.append({name.lower(): value for name, value in self.headers.items()})
            count = len(self._bucket.asked)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        listing = self.command == "GET" and not key
        if self._bucket.is_down("LIST" if listing else self.command, query.get("prefix", "") if listing else key):
            self._error(503, "ServiceUnavailable")
            return key, query, True
        return key, query, self._general(count)

    def _general(self, count: int) -> bool:
        match self._bucket.fault:
            case "never answers":
                self._bucket.released.wait(60)
                self.close_connection = True
            case "503 every third request" if count % 3 == 0:
                self._error(503, "SlowDown")
            case "503 with a time":
                self._error(503, "SlowDown", {"Retry-After": self._bucket.retry_after})
            case "503 to the first two of each" if self._is_one_of_the_first_two():
                self._error(503, "SlowDown")
            case "captive portal":
                self.close_connection = True  # a body may not have been read
                self._answer(200, b"<html>please log in</html>", {"Content-Type": "text/html"})
            case "redirects":
                self.close_connection = True
                self._answer(302, b"<html>moved</html>", {"Location": "https://127.0.0.1:9/"})
            case "skewed clock":
                self._error(403, "RequestTimeTooSkewed")
            case "wrong region":
                self._error(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-north-1"})
            case _:
                return False
        return True

    def _is_one_of_the_first_two(self) -> bool:
        """Of the requests of this kind for this object."""
        with self._bucket.lock:
            return self._bucket.asked.count(self._bucket.asked[-1]) <= 2

    def do_GET(self):
        key, query, over = self._begin()
        if over:
            return
        if not key:
            self._list(query)
            return
        fault, data = self._bucket.fault, self._bucket.objects.get(key)
        if fault == "404 without a body":
            self._answer(404)
        elif fault == "404 of a proxy":
            self._answer(404, b"<html><body>not here</body></html>", {"Content-Type": "text/html"})
        elif fault == "in cold storage":
            self._error(403, "InvalidObjectState")
        elif data is None:
            self._error(404, "NoSuchKey")
        else:
            self._span(data)

    def _span(self, data: bytes) -> None:
        headers, status = {"ETag": _etag(data)}, 200
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                self._error(416, "InvalidRange")
                return
            end = min(len(data), int(last) + 1) if last else len(data)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            data, status = data[int(first) : end], 206
        self._answer(status, data, headers)

    def do_HEAD(self):
        key, _, over = self._begin()
        if over:
            return
        data = self._bucket.objects.get(key)
        if data is None or self._bucket.fault.startswith("404"):
            self._answer(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", _etag(data))
            self.end_headers()

    def do_PUT(self):
        key, _, over = self._begin()
        if over:
            return
        data, fault = self.rfile.read(int(self.headers["Content-Length"])), self._bucket.fault
        if fault == "damages what arrives":
            data = data[:-1] + b"?"
        if fault == "may not write":
            self._error(403, "AccessDenied")
        elif fault == "has no conditions" and {"If-Match", "If-None-Match"} & set(self.headers):
            self._error(501, "NotImplemented")
        elif _damaged(data, self.headers.get("x-amz-content-sha256")):
            self._error(400, "XAmzContentSHA256Mismatch")
        elif self._store(key, data):
            self._put_answer(data)
        else:
            self._error(412, "PreconditionFailed")

    def _put_answer(self, data: bytes) -> None:
        if self._bucket.fault == "does it and hangs up":
            self.close_connection = True
        elif self._bucket.fault == "does it and says 500":
            self._error(500, "InternalError")
        else:
            self._answer(200, b"", {"ETag": _etag(data)})

    def _store(self, key: str, data: bytes) -> bool:
        if self._races():
            if not self._holds(key):
                return False
            time.sleep(RACE_S)
            return self._write(key, data)
        with self._bucket.lock:
            return self._holds(key) and self._write(key, data)

    def _races(self) -> bool:
        fault = self._bucket.fault
        return fault == "checks, then races" or (fault == "races for tokens" and "If-Match" in self.headers)

    def _write(self, key: str, data: bytes) -> bool:
        if self._bucket.fault != "forgets what it wrote":
            self._bucket.objects[key] = data
            self._bucket.put_at[key] = time.monotonic()
        return True

    def _holds(self, key: str) -> bool:
        """Whether the put's condition holds."""
        fault, found = self._bucket.fault, self._bucket.objects.get(key)
        if fault == "ignores conditions":
            return True
        if self.headers.get("If-None-Match") and found is not None:
            return False
        expected = self.headers.get("If-Match")
        return expected is None or fault == "ignores If-Match" or (found is not None and expected == _etag(found))

    def do_DELETE(self):
        key, _, over = self._begin()
        if over:
            return
        if self._bucket.fault == "may not delete":
            self._error(403, "AccessDenied")
            return
        with self._bucket.lock:
            self._bucket.objects.pop(key, None)
        self._answer(204)

    def _list(self, query: dict[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after", "")
        late = time.monotonic() - (LAG_S if self._bucket.fault == "lists late" else 0)
        with self._bucket.lock:
            seen = sorted(key for key, at in self._bucket.put_at.items() if key in self._bucket.objects and at <= late)
        keys = [key for key in seen if key.startswith(prefix) and key > after]
        rows, folders = [], set()
        for key in keys:
            head, slash, _ = key[len(prefix) :].partition("/")
            if query.get("delimiter") and slash:
                folders.add(f"{prefix}{head}/")
            else:
                rows.append(key)
        most = int(query.get("max-keys", 1000))
        cut = f"<NextContinuationToken>{rows[most - 1]}</NextContinuationToken>" if len(rows) > most else ""
        found = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self._bucket.objects.get(key, b''))}</Size></Contents>"
            for key in rows[:most]
        )
        found += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(folders))
        body = f"<ListBucketResult><IsTruncated>{str(bool(cut)).lower()}</IsTruncated>{cut}{found}</ListBucketResult>"
        self._answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.close_connection = self.command == "PUT"  # its body may not have been read
        body = (
            b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code><Message>{code}.</Message></Error>".encode()
        )
        self._answer(status, body, {"Content-Type": "application/xml", **(headers or {})})

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        half = self._bucket.fault == "closes in mid-body" and self.command == "GET"
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if half or self.close_connection:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _damaged(data: bytes, announced: str | None) -> bool:
    """As Amazon's server compares: with the hash that the request's signature covers."""
    return announced is None or announced != hashlib.sha256(data).hexdigest()
