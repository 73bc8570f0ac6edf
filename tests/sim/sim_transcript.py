"""What the sites were asked and what they answered, as a short text: documentation that a test compares.

One line for each request that several sites got at the same moment with the same answer:

    120 ms  host   site0 site1 site2  put v2 (promise 2.host) → done

Times are when a request was sent. Ballots are told by their round and who drew them, heads by their change.
"""

from typing import Any

from sim_schedule import Stage
from sim_world import Keys, Traced

from drtool.manifest import ports
from drtool.manifest.head import open_head
from drtool.manifest.names import life_of, version_of
from drtool.paxos import Ballot, Record, decode_record


class Transcript:
    """Watches a stage from now on."""

    def __init__(self, stage: Stage) -> None:
        self._keys: Keys = stage.run.keys
        self._world = stage.world
        self._proposers: dict[bytes, str] = {}
        self._lines: list[str] = []
        self._began_s = 0.0
        stage.world.traced = []

    def say(self, *lines: str) -> None:
        """Write down what happened so far, then these lines; time begins anew."""
        self._write_down()
        self._lines += lines

    def forget(self) -> None:
        """What happened since the last word is not told."""
        for traced in self._world.traced or ():
            self._words(traced)  # who drew which ballot is remembered all the same
        self._restart()

    def text(self) -> str:
        """Everything so far."""
        self._write_down()
        return "\n".join(self._lines) + "\n"

    def _restart(self) -> None:
        self._world.traced, self._began_s = [], self._world.now

    def _write_down(self) -> None:
        rows: dict[tuple[Any, ...], list[str]] = {}
        for traced in sorted(self._world.traced or (), key=lambda row: (row.sent_s, row.request.site)):
            asked, answered = self._words(traced)
            key = (round((traced.sent_s - self._began_s) * 1000), traced.who, asked, answered)
            rows.setdefault(key, []).append(traced.request.site)
        for (ms, who, asked, answered), sites in rows.items():
            self._lines.append(f"{ms:>6} ms  {who}  {' '.join(sites)}  {asked} → {answered}")
        self._restart()

    def _words(self, traced: Traced) -> tuple[str, str]:
        request, reply = traced.request, traced.reply
        match request:
            case ports.List():
                return f"list {self._place(request.prefix)}", self._names(reply)
            case ports.Read():
                return f"read {self._name(request.name)}", self._bytes(reply, traced.who)
            case ports.PutIfAbsent():
                content = self._record(request.data, traced.who)
                return f"put {self._name(request.name)}{content}", "done" if reply is True else _failure(reply, "taken")
            case ports.Put():
                return f"store {self._name(request.name)}", _failure(reply, "done")
            case ports.Delete():
                return f"delete {self._name(request.name)}", _failure(reply, "done")
        return f"{type(request).__name__.lower()} {self._name(request.name)}", _failure(reply, "done")

    def _names(self, reply: Any) -> str:
        if isinstance(reply, ports.Failed):
            return reply.reason
        return " ".join(self._name(name) for name in reply) or "nothing"

    def _bytes(self, reply: Any, who: str) -> str:
        if not isinstance(reply, bytes):
            return _failure(reply, "missing")
        return self._record(reply, who).strip(" ()") or "its bytes"

    def _record(self, data: bytes, who: str) -> str:
        try:
            record = decode_record(data, lambda body, tag: self._keys.mac_matches("acceptor", body, tag))
        except Exception:  # noqa: BLE001 - an object, or a seal
            return ""
        head = open_head(self._keys, record.value)
        return f" ({self._state(record, who)}, change {head.sequence})"

    def _state(self, record: Record, who: str) -> str:
        first = "founder" if record.chain.config_number == 1 else "stop"
        if record.accepted == record.promised:
            return f"accepted {self._ballot(record.accepted, who, first)}"
        return f"promised {self._ballot(record.promised, who, first)}, accepted {self._ballot(record.accepted, who, first)}"

    def _ballot(self, ballot: Ballot, who: str, first: str) -> str:
        """Who first wrote a ballot is who drew it; a configuration's first one is told by what began it."""
        name = first if ballot.round == 1 else who
        return f"{ballot.round}.{self._proposers.setdefault(ballot.proposer, name)}"

    def _name(self, name: str) -> str:
        life = life_of(name)
        if life is None:
            return name.removeprefix("manifest/")[:12]
        version = version_of(life.prefix, name)
        short = f"v{version}" if version is not None else name.removeprefix(life.prefix)
        return f"{self._life(name)}{short}"

    def _place(self, prefix: str) -> str:
        return self._life(prefix).rstrip("/") or ("versions" if life_of(prefix) else prefix.removeprefix("manifest/"))

    def _life(self, name: str) -> str:
        """Nothing for the first configuration; `c2/` and the like for those that follow."""
        life = life_of(name)
        if life is None or (life.generation, life.number) == (1, 1):
            return ""
        return f"c{life.number}/" if life.generation == 1 else f"g{life.generation}c{life.number}/"


def _failure(reply: Any, otherwise: str) -> str:
    return reply.reason if isinstance(reply, ports.Failed) else otherwise
