"""A line to a server of a test that is slow, thin, or cut: a TCP proxy on a port of its own, with counts of what went over it."""

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

PIECE_BYTES = 64 << 10


@dataclass
class Line:
    """`latency_s` is added each way; `rate_bytes_s` is each direction's, over all connections; `stall_every` pieces one is as
    late as a lost packet is (`stall_s`). All may be changed at any time.
    """

    target_port: int
    latency_s: float = 0.0
    rate_bytes_s: float | None = None
    stall_every: int = 0
    stall_s: float = 0.2
    up_bytes: int = 0
    down_bytes: int = 0
    turns: int = 0
    """How often something was asked after something had been answered, or first on a connection: round trips, but for
    those that overlap on several connections."""
    trips: int = 0
    """Round trips, whatever overlaps on however many connections: what is asked within one of the first is part of it."""
    connections: int = 0
    rejected: int = 0
    """Connections that came while the line was cut."""
    _cut: str = ""
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: dict[str, float] = field(default_factory=dict)
    _pieces: int = 0
    _trip_at: float = 0.0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, *, silent: bool = False) -> None:
        """Drops all connections and refuses new ones; `silent`: nothing goes through and nobody is told, as by a pulled cable."""
        with self._lock:
            self._cut = "silent" if silent else "refused"
        if not silent:
            self._drop()

    def heal(self) -> None:
        """What a silent cut held back is lost: those connections end now."""
        self._drop()
        with self._lock:
            self._cut = ""

    def forget(self) -> None:
        """The counts begin anew."""
        with self._lock:
            self.up_bytes = self.down_bytes = self.turns = self.trips = self.connections = self.rejected = 0
            self._trip_at = 0.0

    def close(self) -> None:
        self._cut = "refused"
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            dropped, self._open = self._open, set()
        for one in dropped:
            _end(one)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._cut == "refused":
                self.rejected += 1
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.rejected += bool(self._cut)
            self._open.add(near)
        try:
            far = socket.create_connection(("127.0.0.1", self.target_port), 10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(far)
        said = {"last": "down"}
        ways = [
            threading.Thread(target=self._pump, args=(*way, said), daemon=True)
            for way in ((near, far, "up"), (far, near, "down"))
        ]
        for each in ways:
            each.start()
        for each in ways:
            each.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str, said: dict[str, str]) -> None:
        """One direction: a reader that notes when each piece came, and a writer that lets it go when its time has come."""
        waiting: list[tuple[float, bytes]] = []
        changed = threading.Condition()
        writer = threading.Thread(target=self._release, args=(waiting, changed, sink), daemon=True)
        writer.start()
        while True:
            try:
                piece = source.recv(PIECE_BYTES)
            except OSError:
                piece = b""
            due = self._count(way, len(piece), said)
            with changed:
                waiting.append((due, piece))
                changed.notify()
            if not piece:
                break
            time.sleep(
                max(0.0, due - self.latency_s - time.monotonic())
            )  # so that no more is taken in than the rate lets through
        writer.join()

    def _release(self, waiting: list[tuple[float, bytes]], changed: threading.Condition, sink: socket.socket) -> None:
        while True:
            with changed:
                while not waiting:
                    changed.wait()
                due, piece = waiting.pop(0)
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if self._cut != "silent":
                    sink.sendall(piece)
            except OSError:
                return

    def _count(self, way: str, count: int, said: dict[str, str]) -> float:
        """When a piece that came now may go on."""
        now = time.monotonic()
        with self._lock:
            if count and way == "up":
                self.up_bytes += count
                self.turns += said["last"] == "down"
                if now - self._trip_at >= 2 * self.latency_s:
                    self.trips, self._trip_at = self.trips + 1, now
            elif count:
                self.down_bytes += count
            if count:
                said["last"] = way
            self._pieces += 1
            lost = self.stall_every and self._pieces % self.stall_every == 0
            through = now
            if self.rate_bytes_s is not None:
                through = max(now, self._free_at.get(way, 0.0)) + count / self.rate_bytes_s
                self._free_at[way] = through
        return through + self.latency_s + (self.stall_s if lost else 0.0)


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
