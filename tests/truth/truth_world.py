"""A repository in real directories, and the steps of a history done to it: by the commands themselves and by hand.

The commands are processes, forked from one that has imported drtool already; what they say is their JSON and their exit code.
"""

import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import truth_damage
from blake3 import blake3
from command_shell import Ran, Shell, shell_in
from command_zygote import Zygote
from truth_catalogue import Shelf
from truth_history import Step
from truth_kill import KILL, KILLED
from truth_oracle import Copy, Oracle, Truth
from truth_process import SEED, VARIANT
from truth_topology import ARBITER, THREE, Topology

PASSWORD = "correct horse"
DONE = (0, 3, 5)
"""The exit codes of a change that was made, at some sites at least."""
FILES = 5
FILE_BYTES = 30_000


@dataclass
class World:
    """`root` is an empty directory; `zygote` forks the commands."""

    root: Path
    seed: int
    zygote: Zygote
    variant: str = ""
    """A way in which the product is broken (truth_broken.py)."""
    topology: Topology = THREE
    shell: Shell = field(init=False)
    places: dict[str, Path] = field(default_factory=dict)
    """Where each target lies, by name, also while it is away."""
    oracle: Oracle = field(default_factory=lambda: Oracle([PASSWORD.encode()]))
    acknowledged: dict[str, dict[str, str]] = field(default_factory=dict)
    """Every snapshot that a backup reported and nobody forgot: the hash of each file by path."""
    known: frozenset[Copy] = frozenset()
    """The damage that the last verification could see."""
    passwords: list[Path] = field(default_factory=list)
    restored: list[tuple[str, bool, Ran]] = field(default_factory=list)
    """What the last restores brought back: the snapshot, whether every byte is right, the answer."""
    connected: tuple[str, Ran, frozenset[str]] | None = None
    """The site that a new host connected from in the last step, the answer, the snapshots that it lists then."""
    _begun: list[dict[str, str]] = field(default_factory=list)
    """What backups that were killed may have stored, and may store when their changes are sent again."""
    _ended: set[str] = field(default_factory=set)
    """The snapshots that a forget which was killed may have forgotten."""
    _commands: int = 0
    _kill: int = 0
    _elsewhere: bool = False

    def __post_init__(self) -> None:
        self.shell = shell_in(self.root)
        self.shell.zygote = self.zygote
        self.source.mkdir()
        here = self.topology
        self.places = {f"{site}/main": self.root / "sites" / site for site in here.every}
        words = [word for site in here.sites for word in ("--target", f"{site}={self.root / 'sites' / site}")]
        arbiter = ["--arbiter", str(self.root / "sites" / ARBITER)] if here.arbiter else []
        if here.voteless:
            words, arbiter = [], []
            (self.root / "drtool.yaml").write_text("sites:\n" + "".join(map(self._row, here.every)))
        founded = self.command("init", *words, "--copies", str(here.copies), *arbiter)
        assert founded.code == 0, founded

    def _row(self, site: str) -> str:
        """A site in the configuration, which says that it votes, stores or does both."""
        vote = "only" if site == ARBITER else "false" if site in self.topology.voteless else "auto"
        return f"  {site}: {{main: {{url: {self.root / 'sites' / site}, vote: {vote}}}}}\n"

    @property
    def source(self) -> Path:
        return self.root / "source"

    def command(self, *words: str) -> Ran:
        """Runs one command line; its entropy is drawn from the seed and its place in the history."""
        return self._run(words)

    def elsewhere(self, *words: str) -> Ran:
        """The same on another host, which knows only what the sites tell it."""
        return self._run(words, "other-")

    def _run(self, words: Iterable[str], host: str = "", **environ: str) -> Ran:
        """`host`: the beginning of the names of its state and cache; the first host has none."""
        self._commands += 1
        own = {f"DRTOOL_{name.upper()}_DIR": str(self.root / f"{host}{name}") for name in ("state", "cache")}
        entropy = {SEED: f"{self.seed} {self._commands}", VARIANT: self.variant}
        return self.shell("--json", *words, **(own if host else {}), **entropy, **environ)

    def _act(self, *words: str) -> Ran:
        """The command of a step, on the host that the step names; it may be killed."""
        kill = {KILL: str(self._kill)} if self._kill else {}
        return self._run(words, "other-" if self._elsewhere else "", **kill)

    def look(self) -> Truth:
        return self.oracle.look(self.places, truth_damage.is_writable)

    def do(self, step: Step) -> Ran | None:
        """One step. None if no command was run: it was done by hand, or there was nothing to do."""
        method: Callable[[Step], Ran | None] = getattr(self, f"_{step.verb.replace('-', '_')}")
        self.connected, self._kill, self._elsewhere = None, step.kill, step.elsewhere
        ran = method(step)
        self._kill, self._elsewhere = 0, False
        return ran

    def settle(self) -> Ran:
        """A change of the host whose command was killed: it decides what became of that command's own."""
        return self.command("tag", "latest", "--add", "seen")

    def take_note(self, truth: Truth) -> None:
        """Of what commands that were killed have done after all."""
        listed = truth.catalogue.snapshots
        for name in set(listed) - set(self.acknowledged):
            files = truth.made[name].files if name in truth.made else None
            if files in self._begun:
                self.acknowledged[name] = dict(files or {})
        for name in (set(self.acknowledged) - set(listed)) & self._ended:
            del self.acknowledged[name]

    def _edit(self, step: Step) -> None:
        """Some files change, some are new, one may go."""
        draw = random.Random(step.draw)
        for number in range(FILES):
            if draw.random() < 0.4 or not (self.source / f"f{number}").exists():
                (self.source / f"f{number}").write_bytes(draw.randbytes(draw.randrange(1, FILE_BYTES)))
        directory = self.source / f"d{draw.randrange(2)}"
        directory.mkdir(exist_ok=True)
        (directory / "small").write_text(f"{step.draw}\n")
        if draw.random() < 0.3:
            (self.source / f"f{draw.randrange(FILES)}").unlink()

    def _portrait(self) -> dict[str, str]:
        files = (path for path in sorted(self.source.rglob("*")) if path.is_file())
        return {str(path): blake3(path.read_bytes()).hexdigest() for path in files}

    def _backup(self, _: Step) -> Ran:
        ran = self._act("backup", str(self.source), *(("--host", "other") if self._elsewhere else ()))
        if ran.code == KILLED:
            self._begun.append(self._portrait())
            return ran
        for row in ran.document.get("snapshots", ()):
            self.acknowledged[row["id"]] = self._portrait()
        return ran

    def _forget(self, step: Step) -> Ran | None:
        """One snapshot, but never the last one."""
        if len(self.acknowledged) < 2:
            return None
        chosen = list(self.acknowledged)[int(step.share * (len(self.acknowledged) - 1))]
        ran = self._act("forget", "--snapshot", chosen)
        if ran.code == KILLED:
            self._ended.add(chosen)
        elif ran.code == 0:
            del self.acknowledged[chosen]
        return ran

    def _verify(self, _: Step) -> None:
        """`truth_play` verifies after this step as after others."""

    def _prune(self, _: Step) -> Ran:
        return self._act("prune")

    def _repair(self, _: Step) -> Ran:
        return self._act("repair")

    def _rebalance(self, _: Step) -> Ran:
        return self._act("rebalance")

    def _rotate(self, _: Step) -> Ran:
        also = [word for path in self.passwords for word in ("--also-password-file", str(path))]
        return self.command("key", "rotate", *also)

    def _add_password(self, _: Step) -> Ran:
        path = self.root / f"password-{len(self.oracle.passwords)}"
        path.write_text(f"{path.name}\n")
        path.chmod(0o600)
        ran = self.command("key", "add", "--label", path.name, "--new-password-file", str(path))
        if ran.code in DONE:
            self.passwords.append(path)
            self.oracle.passwords.append(path.name.encode())
        return ran

    def _remove_password(self, _: Step) -> Ran | None:
        """The one that was added last, if there is one."""
        rows = self.command("key", "list").document.get("slots", ()) if self.passwords else ()
        found = [row["id"] for row in rows if row["label"] == self.passwords[-1].name]
        if not found:
            return None
        ran = self.command("key", "remove", found[0])
        if ran.code in DONE:
            self.passwords.pop()
        return ran

    def _restore(self, _: Step) -> Ran | None:
        """Every snapshot, into a directory of its own, compared byte for byte."""
        self.restored.clear()
        for name, portrait in self.acknowledged.items():
            out = self.root / "out"
            shutil.rmtree(out, ignore_errors=True)
            ran = self.command("restore", name, "--to", str(out))
            back = {f"/{path.relative_to(out)}": path for path in out.rglob("*") if path.is_file()}
            same = back.keys() == portrait.keys() and all(
                blake3(path.read_bytes()).hexdigest() == portrait[name] for name, path in back.items()
            )
            self.restored.append((name, same, ran))
        return None

    def _damage(self, step: Step) -> None:
        place = self.places[f"{step.site}/main"]
        if truth_damage.objects_of(place, step.kind):
            truth_damage.damage(place, step.kind, step.how, step.share, step.at)

    def _away(self, step: Step) -> None:
        place = self.places[f"{step.site}/main"]
        place.rename(self._aside(place))

    def _back(self, step: Step) -> None:
        place = self.places[f"{step.site}/main"]
        self._aside(place).rename(place)

    def _aside(self, place: Path) -> Path:
        return self.root / f"away-{place.name}"

    def _read_only(self, step: Step) -> None:
        truth_damage.set_writable(self.places[f"{step.site}/main"], writable=False)

    def _writable(self, step: Step) -> None:
        truth_damage.set_writable(self.places[f"{step.site}/main"], writable=True)

    def _save(self, step: Step) -> None:
        truth_damage.copy_site(self.places[f"{step.site}/main"], self.root / f"saved-{step.site}")

    def _set_back(self, step: Step) -> None:
        truth_damage.put_back(self.root / f"saved-{step.site}", self.places[f"{step.site}/main"])

    def _replace(self, step: Step) -> Ran:
        """A new, empty directory takes the place of a site that is away for good."""
        fresh = self.places[f"{step.site}/main"].with_name(f"{step.site}{self._commands}")
        ran = self.command("site", "replace", step.site, f"{step.site}={fresh}", *(["--gone"] if step.how else []))
        if ran.code == 0:
            self.places[f"{step.site}/main"] = fresh
        else:
            self._back(step)
        return ran

    def _recover(self, _: Step) -> Ran:
        """From the sites that are left."""
        left = [site for site in self.topology.voters if self.places[f"{site}/main"].exists()]
        words = [word for site in left for word in ("--from", site)]
        return self.command("manifest", "recover", *words, "--i-accept-lost-writes")

    def _connect(self, step: Step) -> Ran:
        """A new host, with nothing but a place of one site and the password."""
        for path in self.root.glob("new-*"):
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
        config = str(self.root / "new-drtool.yaml")
        ran = self._run(("connect", str(self.places[f"{step.site}/main"]), "--write-config", config), "new-")
        rows = self._run(("-c", config, "snapshots"), "new-").document if ran.code == 0 else {}
        self.connected = (step.site, ran, frozenset(row["id"] for row in rows.get("snapshots", ())))
        return None

    def _add_site(self, step: Step) -> Ran:
        place = self.root / "sites" / step.site
        ran = self.command("target", "add", step.site, str(place))
        if ran.code == 0:
            self.places[f"{step.site}/main"] = place
        return ran

    def _vote(self, step: Step) -> Ran:
        return self.command("site", "add", step.site)

    def _drain(self, step: Step) -> Ran:
        return self.command("target", "drain", f"{step.site}/main")

    def _remove_site(self, step: Step) -> Ran:
        ran = self.command("target", "remove", f"{step.site}/main")
        if ran.code == 0:
            del self.places[f"{step.site}/main"]
        return ran

    def summary(self) -> str:
        """What lies at each target, for people."""
        rows = ((name, Shelf(path)) for name, path in sorted(self.places.items()))
        return "; ".join(f"{name} {len(shelf.names()) if shelf.present else 'away'}" for name, shelf in rows)
