"""The scenario: five sites, four writers and two readers; each fault by itself for a while, then all of them in a random mix.

One site at a time is in trouble; at the same time processes die, stop, or see their clock jump. What happened when is kept:
a site that was in trouble may be named by whoever was at work then, and nobody else may be named at all.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_crew import Crew
from chaos_sites import CannotMount, Ext4Site, Site, TmpfsSite, why_no_mounts
from chaos_worker import Host, drtool

from drtool.events import ignore
from drtool.manifest import DirectoryState
from drtool.manifest.names import acceptor_prefix, sealed_name, version_of
from drtool.manifest.switching import Member
from drtool.model import SiteName, TargetName
from drtool.repository import RepositorySpec, TargetSpec, open_repository

SITES = ("bern", "oslo", "paris", "rome", "wien")
SPARES = ("lima", "nome")
"""Targets that do not vote at first: whom a change of voters may call in."""
WRITER = {"append": 6.0, "read": 3.0, "epoch": 1.0}
READER = {"read": 9.0, "check": 1.0}
HOSTS: dict[str, dict[str, float]] = {
    **{f"w{i}": WRITER for i in range(3)},
    "w3": {**WRITER, "cli": 3.0},
    **{f"r{i}": READER for i in range(2)},
}
PROCESS_FAULTS = ("kill", "stop", "clock", "voters")
SITE_FAULTS = ("away", "cut", "read-only", "full", "slow", "frozen", "power-cut", "wiped")
MISHAP_CHANCE = 0.12


@dataclass(frozen=True)
class Options:
    """All that a run is made of; printed, and enough to begin the same run again."""

    seed: int
    seconds: float
    steps: tuple[str, ...]
    mutation: str = ""

    @property
    def in_earnest(self) -> bool:
        """Long enough for the product's own patience, and for processes that stand still for a minute."""
        return self.seconds >= 240

    @property
    def timing(self) -> dict[str, float]:
        if self.in_earnest:
            return {"patience_s": 30.0, "request_timeout_s": 12.0, "deadline_s": 50.0}
        return {"patience_s": 3.0, "request_timeout_s": 1.2, "deadline_s": 5.0}

    @property
    def stop_s(self) -> tuple[float, float]:
        return (55.0, 65.0) if self.in_earnest else (4.0, 5.5)

    @property
    def hold_s(self) -> tuple[float, float]:
        return (1.0, 15.0) if self.in_earnest else (0.5, 2.5)


@dataclass
class Phase:
    """A stretch of the run, and what may happen in it."""

    name: str
    faults: tuple[str, ...]
    began: float = 0.0
    ended: float = 0.0
    injected: int = 0


@dataclass
class Trouble:
    """One fault of one site: from when to when, in words."""

    site: str
    words: str
    began: float
    ended: float = float("inf")


@dataclass
class Scenario:
    """One run, from founding to the last process's end."""

    place: Path
    options: Options
    tell: Callable[[str], None]
    phases: list[Phase] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.options.seed)
        self.sites = self._choose_sites()
        self._site: Site | None = None
        self._next_site_s = self._next_process_s = 0.0
        self._slow: dict[str, float] = {}
        self._mended = self._asleep = False

    def run(self) -> None:
        """Found, disturb, heal, end; whatever happens, nothing stays mounted and nobody stays alive."""
        try:
            self.found()
            self.crew = Crew(self.place, list(HOSTS), self.rng, self.options.stop_s)
            if not self.crew.library:
                self.missing["clock"] = "libfaketime is not installed (Debian: faketime)"
            try:
                self.crew.wait_until_ready(60.0)
                for phase in self._plan():
                    self._live_through(phase)
                self._heal()
                self._order(Phase("end", ()))
                self._mend()
                self.crew.end(self.options.timing["deadline_s"] * 3 + 30)
                self.crew.settle(self.options.timing["deadline_s"] * 3 + 30)
            finally:
                self._heal()
                self.crew.slaughter()
            self.violations += self.crew.complaints
        except BaseException:
            self.close()
            raise

    def say(self, text: str) -> None:
        """For whoever watches, and for whoever has to understand the histories later."""
        self.tell(text)
        with (self.place / "events").open("a") as file:
            file.write(f"{time.monotonic():.3f} {text}\n")

    def close(self) -> None:
        for site in self.sites:
            site.close()

    def found(self) -> None:
        """The repository, by the command line; then the file that tells the processes everything."""
        for name in ("history", "errors", "clocks", "hosts"):
            (self.place / name).mkdir()
        (self.place / "password").write_text("correct horse battery staple\n")
        for site in self.sites:
            site.prepare()
        words = [word for site in self.sites for word in ("--target", f"{site.name}={site.root}")]
        done = drtool(self.place, "founder", "init", *words, "--copies", "2")
        if done.returncode != 0:
            raise RuntimeError(f"drtool init: {done.stdout}{done.stderr}")
        with open_repository(self._spec(), ignore) as repository:
            masters = {str(generation): key.hex() for generation, key in repository.keyring.masters.items()}
            facts: dict[str, Any] = {
                "seed": self.options.seed,
                "mutation": self.options.mutation,
                "repository": repository.keyring.repository.hex(),
                "masters": masters,
                "sites": {site.name: str(site.root) for site in self.sites},
                "hosts": HOSTS,
                "first_epoch": repository.view.state.ring_epoch,
                "pause_s": 0.2,
                **self.options.timing,
            }
        (self.place / "world.json").write_text(json.dumps(facts))
        self._order(Phase("calm", ()))
        with self.host("founder").manifest() as manifest:
            manifest.set_voters([Member(SiteName(name), TargetName(f"{name}/main")) for name in SITES])

    def _spec(self) -> RepositorySpec:
        home = self.place / "hosts" / "founder"
        targets = tuple(TargetSpec(name=TargetName(f"{site.name}/main"), url=str(site.root)) for site in self.sites)
        return RepositorySpec(
            label="chaos",
            targets=targets,
            cache_dir=home / "cache",
            state_dir=home / "state",
            password=lambda: b"correct horse battery staple",
            host="founder",
        )

    def host(self, name: str) -> Host:
        """A host of the scenario, for the judge to look through its eyes."""
        return Host(self.place, name, 0)

    def hosts(self) -> list[str]:
        return list(HOSTS)

    def _choose_sites(self) -> list[Site]:
        no_tmpfs, no_ext4 = why_no_mounts(self.place)
        small: type[Site] = Site if no_tmpfs else TmpfsSite
        disk: type[Site] = small if no_ext4 else Ext4Site
        self.missing = {fault: no_tmpfs for fault in TmpfsSite.faults if no_tmpfs and fault not in Site.faults}
        self.missing |= {fault: no_ext4 for fault in Ext4Site.faults if no_ext4 and fault not in small.faults}
        kinds = (Site, small, disk, disk, Site, Site, Site)
        sites = [kind(self.place, name) for kind, name in zip(kinds, SITES + SPARES, strict=True)]
        for site in sites:
            if isinstance(site, Ext4Site):
                site.audit = self._audit
        return sites

    def _plan(self) -> Iterator[Phase]:
        """Half of the time for each fault by itself, the other half for all of them at once."""
        steps = [step for step in self.options.steps if step not in self.missing and step != "mix"]
        mixed = "mix" in self.options.steps
        share = self.options.seconds / (2 if mixed else 1) / max(len(steps), 1)
        for step in steps:
            yield from self._phase(step, (step,) if step != "calm" else (), share)
        if mixed:
            yield from self._phase("mix", tuple(step for step in steps if step != "calm"), self.options.seconds / 2)

    def _phase(self, name: str, faults: tuple[str, ...], seconds: float) -> Iterator[Phase]:
        began = time.monotonic()
        phase = Phase(name, faults, began, began + seconds)
        self.phases.append(phase)
        yield phase

    def _live_through(self, phase: Phase) -> None:
        self.say(f"{phase.name}: {phase.ended - phase.began:.1f} s")
        self._order(phase)
        self._next_site_s = self._next_process_s = phase.began + 0.2
        stopped, died = self.crew.stops, self.crew.deaths
        while (now := time.monotonic()) < phase.ended:
            if now >= self._next_site_s:
                self._turn_site(phase, now)
            if now >= self._next_process_s:
                self._next_process_s = now + self.rng.uniform(0.3, 1.5)
                self._strike(phase)
            self.crew.poll()
            if self._asleep != self.crew.enough_asleep:
                self._asleep = self.crew.enough_asleep
                self._order(phase)
            time.sleep(0.02)
        self._heal()
        phase.injected += self.crew.stops - stopped + self.crew.deaths - died

    def _turn_site(self, phase: Phase, now: float) -> None:
        """End the trouble of one site, or begin another's."""
        if self._site is not None:
            self._heal()
            self._next_site_s = now + self.rng.uniform(0.2, 1.0)
            return
        if self._is_mending():
            return
        choices = [(site, fault) for site in self.sites for fault in site.faults if fault in phase.faults]
        if not choices:
            self._next_site_s = phase.ended
            return
        fault = self.rng.choice(sorted({fault for _, fault in choices}))
        site = self.rng.choice([site for site, possible in choices if possible == fault])
        hold_s = min(self.rng.uniform(*self.options.hold_s), max(0.2, phase.ended - now))
        self._begin(phase, site, fault, hold_s)
        self._next_site_s = time.monotonic() + hold_s

    def _begin(self, phase: Phase, site: Site, fault: str, hold_s: float) -> None:
        trouble = Trouble(site.name, fault, time.monotonic())
        self.troubles.append(trouble)
        self._site = site
        try:
            trouble.words = site.begin(fault, hold_s, self.rng.choice)
        except (CannotMount, OSError) as error:
            trouble.words = ""
            self.say(f"  {site.name}: {fault} was not possible just now: {error}")
        if fault == "slow":
            self._slow = {site.name: self.rng.choice((0.05, 0.4, self.options.timing["request_timeout_s"] * 1.5))}
            self._order(phase)
        if trouble.words:
            phase.injected += 1
            self.say(f"  {site.name}: {trouble.words}")

    def _heal(self) -> None:
        if self._site is None:
            return
        site, self._site = self._site, None
        site.heal()
        if self._slow:
            self._slow = {}
            self._order(self.phases[-1])
        if self.troubles[-1].words != "wiped":
            self.troubles[-1].ended = time.monotonic()

    def _is_mending(self) -> bool:
        """Whether a wiped register still waits for an administrator: nobody else is wiped before it has a life again."""
        wiped = self.troubles[-1] if self.troubles and self.troubles[-1].words == "wiped" else None
        if wiped is None or wiped.ended < float("inf"):
            return False
        if not self._mended:
            self._mended = self.crew.send_admin("voters", "fresh", wiped.site)
        elif self.crew.admin.resting:
            wiped.ended, self._mended = time.monotonic(), False
            return False
        return True

    def _strike(self, phase: Phase) -> None:
        """Something happens to a process; deaths and stops are counted when they are seen."""
        possible = [fault for fault in PROCESS_FAULTS if fault in phase.faults]
        if not possible:
            return
        fault = self.rng.choice(possible)
        words = {
            "kill": self.crew.kill,
            "stop": self.crew.stop,
            "clock": self.crew.clock,
            "voters": self._change_voters,
        }[fault]()
        phase.injected += fault in {"clock", "voters"} and bool(words)
        if words:
            self.say(f"  {words}")

    def _mend(self) -> None:
        """Let the administrator finish, with nobody in the way."""
        ends_at = time.monotonic() + 60
        while (self._is_mending() or not self.crew.admin.resting) and time.monotonic() < ends_at:
            self.crew.poll()
            time.sleep(0.02)

    def _change_voters(self) -> str:
        how = self.rng.choice(("swap", "swap", "resize"))
        return f"the voters change: {how}" if self.crew.send_admin("voters", how, "-") else ""

    def _order(self, phase: Phase) -> None:
        chance = {fault: MISHAP_CHANCE if fault in phase.faults else 0.0 for fault in ("kill", "stop")}
        if self._asleep:
            chance["stop"] = 0.0
        fresh = self.place / "orders.new"
        fresh.write_text(json.dumps({"slow": self._slow, **chance}))
        fresh.replace(self.place / "orders.json")

    def _audit(self, site: Ext4Site) -> None:
        """After a power cut: whatever any host saw confirmed at this site is on its disk, and nothing there is torn."""
        for name in self.hosts():
            witness = self.host(name).local.witness()
            seen, config = witness.sites.get(site.name), witness.config
            if seen is None or config is None:
                continue
            prefix = acceptor_prefix(config.generation, config.number, config.recovery)
            if (site.recovered / sealed_name(prefix)).exists():
                continue  # this host does not know yet that the configuration has ended, and its records may go
            names = [f"{prefix}{path.name}" for path in (site.recovered / prefix).glob("v-*")]
            newest = max((version for each in names if (version := version_of(prefix, each)) is not None), default=0)
            if newest < seen.version:
                self.violations.append(
                    f"{site.name} came back from a power cut with version {newest}, "
                    f"and {name} had seen version {seen.version} confirmed there"
                )


def outstanding(place: Path, facts: dict[str, Any], host: str) -> int:
    """How many changes a host still does not know the fate of."""
    return len(DirectoryState(place / "hosts" / host / "state" / "repositories" / facts["repository"]).outstanding())
