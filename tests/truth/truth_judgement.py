"""What each command must say, given what is true. Pure: a case gives complaints.

Every rule is a function whose name is the promise; `RULES` holds them all. A complaint says what was said and what is true.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from truth_catalogue import MARKER
from truth_history import Step
from truth_kill import KILLED
from truth_oracle import Copy, Stock, Truth

DONE, INCOMPLETE, DAMAGE, DEGRADED, NO_QUORUM, MISSED, REFUSED = 0, 3, 4, 5, 6, 7, 11


@dataclass(frozen=True)
class Answer:
    """What a command line said: its exit code, its JSON document."""

    code: int
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Restored:
    snapshot: str
    same: bool
    """Whether what came back is the source, byte for byte."""
    code: int


@dataclass(frozen=True)
class Connected:
    """A new host that connected from a place of one site, and what it lists then."""

    site: str
    code: int
    listed: frozenset[str]
    words: str


@dataclass(frozen=True)
class Case:
    """One step, the truth before and after it, and everything that drtool said."""

    step: Step
    before: Truth
    after: Truth
    now: Truth
    """After the verification, if there was one; for the answers that came later."""
    known: frozenset[Copy]
    """The damage that drtool was shown by the last verification before the step."""
    acknowledged: Mapping[str, Mapping[str, str]]
    did: Answer | None = None
    status: Answer | None = None
    """Before the verification."""
    verify: Answer | None = None
    status_after: Answer | None = None
    status_elsewhere: Answer | None = None
    """On another host, which learns of damage from the catalogue."""
    survive: Answer | None = None
    """After the verification, if there was one."""
    failed: tuple[tuple[str, Answer], ...] = ()
    """The looks that ended with an error instead of a document: the command, and what it said."""
    restored: tuple[Restored, ...] = ()
    connected: Connected | None = None
    shown: frozenset[Copy] = field(default=frozenset())
    """The damage that drtool was shown by now, this verification included."""

    @property
    def everything_shown(self) -> bool:
        return self.now.damaged <= self.shown

    @property
    def statuses(self) -> Iterator[tuple[Answer, Truth, frozenset[Copy]]]:
        """Each answer of `status`, with what was true then, and the damage that was shown before it."""
        if self.status:
            yield self.status, self.after, self.known
        if self.status_after:
            yield self.status_after, self.now, self.shown
        if self.status_elsewhere:
            yield self.status_elsewhere, self.now, self.shown


@dataclass(frozen=True)
class Complaint:
    rule: str
    words: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.words}"


Rule = Callable[[Case], Iterator[str]]
RULES: dict[str, Rule] = {}
ALWAYS = (
    "catalogue-lists-what-was-acknowledged",
    "stored-bytes-are-the-source",
    "backup-is-degraded-when-it-has-too-few-copies",
    "status-exit-code-and-healthy-agree",
    "survive-exit-code-agrees-with-its-document",
)


def rule(function: Rule) -> Rule:
    RULES[function.__name__.replace("_", "-")] = function
    return function


def judge(case: Case, without: frozenset[str] = frozenset()) -> list[Complaint]:
    """Everything that is said and not so, by all rules but those named.

    Of a target that proves by neither marker nor register who it is, drtool may use what lies there or not: then only the rules
    hold that do not depend on it.
    """
    unclear = case.before.unclear or case.after.unclear or case.now.unclear
    rules = {name: RULES[name] for name in (ALWAYS if unclear else RULES) if name not in without}
    return [Complaint(name, words) for name, check in rules.items() for words in check(case)]


# The catalogue and the data


@rule
def catalogue_lists_what_was_acknowledged(case: Case) -> Iterator[str]:
    listed, told = set(case.after.catalogue.snapshots), set(case.acknowledged)
    if listed != told:
        yield f"acknowledged and not listed: {_short(told - listed)}; listed and not acknowledged: {_short(listed - told)}"


@rule
def stored_bytes_are_the_source(case: Case) -> Iterator[str]:
    for name, made in case.after.made.items():
        portrait = case.acknowledged.get(name)
        if portrait is not None and made.files != portrait:
            yield f"snapshot {name[:8]} does not hold the source as it was"


@rule
def no_command_loses_anything(case: Case) -> Iterator[str]:
    """What could be restored before a command can be restored after it, unless it was forgotten."""
    if case.did is not None:
        before = case.before.restorable(case.before.good) & set(case.after.catalogue.snapshots)
        if gone := before - case.after.restorable(case.after.good):
            yield f"after {case.step} (exit {case.did.code}) these cannot be restored any more: {_short(gone)}"


@rule
def restore_brings_back_what_can_be_restored(case: Case) -> Iterator[str]:
    possible = case.after.restorable(case.after.good) if case.after.can_commit else frozenset()
    for row in case.restored:
        if row.code == DONE and not row.same:
            yield f"restore of {row.snapshot[:8]} exits 0 with other bytes than the source"
        elif row.code != DONE and row.snapshot in possible:
            yield f"restore of {row.snapshot[:8]} exits {row.code}, and everything it needs can be reached"


@rule
def status_verify_and_survive_always_answer(case: Case) -> Iterator[str]:
    """Only without a quorum of voters may they end with an error."""
    for words, said in case.failed:
        if said.code != NO_QUORUM or case.after.can_commit:
            yield f"{words} exits {said.code}: {said.document['error']['message']}"


@rule
def commands_end_as_documented(case: Case) -> Iterator[str]:
    """With a quorum and a key slot left, nothing in a history is a reason to fail: done, incomplete, degraded or refused."""
    if (
        case.did is not None
        and case.before.can_commit
        and case.did.code not in (KILLED, DONE, INCOMPLETE, DAMAGE, DEGRADED, REFUSED)
    ):
        yield f"{case.step} exits {case.did.code}: {case.did.document.get('error')}"


@rule
def a_new_host_connects_from_any_site(case: Case) -> Iterator[str]:
    """From a voter's place whose part of the catalogue is sound, while the voters have a quorum."""
    new = case.connected
    place = f"{new.site}/main" if new is not None else ""
    if new is None or not case.after.can_commit or place not in case.after.catalogue.voters.values():
        return
    wrong = {name for target, name in case.after.damaged | case.after.missing if target == place}
    if place in case.after.usable and all(name.startswith(("packs/", "index/")) for name in wrong):
        if new.code != DONE:
            yield f"connect from {new.site} exits {new.code}: {new.words[:300]}"
        elif new.listed != set(case.after.catalogue.snapshots):
            yield f"a host that connected from {new.site} lists {len(new.listed)} snapshots of {len(case.acknowledged)}"


# backup


@rule
def backup_is_degraded_when_it_has_too_few_copies(case: Case) -> Iterator[str]:
    for row in _reports(case):
        copies = row["copies"]
        if row["degraded"] != (copies["minimum_written"] < copies["wanted"]):
            yield f"backup says degraded {row['degraded']} of {copies}"
        if row["degraded"] and case.did is not None and case.did.code not in (INCOMPLETE, DEGRADED):
            yield f"backup says degraded and exits {case.did.code}"


@rule
def backup_counts_copies_that_can_be_seen(case: Case) -> Iterator[str]:
    """Never a site that is away, never a copy that is known to be bad."""
    for row in _reports(case):
        said = row["copies"]["minimum_written"]
        seen = case.after.copies(_without(case.after.listed, case.known & case.after.damaged), row["id"])
        if said > seen:
            yield f"backup counts {said} copies of {row['id'][:8]}, and {seen} can be seen"


@rule
def backup_stores_what_can_be_restored(case: Case) -> Iterator[str]:
    """When every damage was known beforehand."""
    if case.before.damaged <= case.known:
        lost = {row["id"] for row in _reports(case)} - case.after.restorable(case.after.good)
        if lost:
            yield f"backup exits {case.did.code if case.did else None}, and what it stored cannot be restored: {_short(lost)}"


@rule
def backup_stores_all_copies_when_the_sites_are_there(case: Case) -> Iterator[str]:
    """Where nothing is damaged, and at least as many sites take data as copies are promised."""
    writable = {name.partition("/")[0] for name in case.after.usable - case.after.unwritable}
    if case.before.all_well and case.after.all_well and len(writable) >= case.after.catalogue.copies:
        for row in _reports(case):
            if row["degraded"]:
                yield f"backup is degraded ({row['copies']}) though all is well"


def _reports(case: Case) -> list[Mapping[str, Any]]:
    done = case.did if case.step.verb == "backup" else None
    return list(done.document.get("snapshots", ())) if done else []


# status


@rule
def status_exit_code_and_healthy_agree(case: Case) -> Iterator[str]:
    for said, _, _ in case.statuses:
        if said.code in (DONE, MISSED) and _is_fine(said) != said.document["healthy"]:
            yield f"status exits {said.code} with healthy {said.document['healthy']}: {said.document['problems'][:2]}"


@rule
def status_is_not_healthy_when_a_promised_loss_would_cost_a_snapshot(case: Case) -> Iterator[str]:
    for truth, shown in _called_healthy(case):
        if not truth.survives_promise(_without(truth.listed, shown & truth.damaged)):
            yield "status says healthy, and the loss of a site would cost a snapshot"


@rule
def status_is_not_healthy_when_a_site_is_away(case: Case) -> Iterator[str]:
    yield from (f"status says healthy, and {truth.away[0]} is away" for truth, _ in _called_healthy(case) if truth.away)


@rule
def status_is_not_healthy_when_a_site_cannot_be_written(case: Case) -> Iterator[str]:
    for truth, _ in _called_healthy(case):
        yield from (f"status says healthy, and {target} is read-only" for target in sorted(truth.unwritable)[:1])


@rule
def status_is_not_healthy_when_damage_is_known(case: Case) -> Iterator[str]:
    for truth, shown in _called_healthy(case):
        for target, name in sorted(shown & truth.damaged)[:1]:
            yield f"status says healthy, and verify has shown {name} at {target} to be damaged"


@rule
def status_is_not_healthy_when_a_key_slot_is_missing(case: Case) -> Iterator[str]:
    for truth, _ in _called_healthy(case):
        missing = sorted(copy for copy in truth.missing if copy[1].startswith("keys/"))
        yield from (f"status says healthy, and {name} is missing at {target}" for target, name in missing[:1])


@rule
def status_is_healthy_when_all_is_well(case: Case) -> Iterator[str]:
    for said, truth, shown in case.statuses:
        found = said is not case.status and case.verify is not None and case.verify.code != DONE
        if truth.all_well and not shown and not found and not _is_fine(said):
            yield f"status exits {said.code} though all is well: {said.document.get('problems')}"


@rule
def status_counts_copies_that_can_be_seen(case: Case) -> Iterator[str]:
    for said, truth, shown in case.statuses:
        for row in said.document.get("sources", ()):
            if row["newest_snapshot"] in truth.made and row["copies"] is not None:
                seen = truth.copies(_without(truth.listed, shown & truth.damaged), row["newest_snapshot"])
                if row["copies"] > seen:
                    yield f"status says {row['copies']} copies of {row['newest_snapshot'][:8]}, and {seen} can be seen"


def _called_healthy(case: Case) -> Iterator[tuple[Truth, frozenset[Copy]]]:
    return ((truth, shown) for said, truth, shown in case.statuses if _is_fine(said))


def _is_fine(said: Answer) -> bool:
    return said.code == DONE


# verify


@rule
def verify_finds_all_damage(case: Case) -> Iterator[str]:
    if case.verify:
        unsaid = sorted(_damage_in_reach(case, case.verify) - _named(case.verify))
        if unsaid:
            yield f"verify exits {case.verify.code} without a word of {unsaid[0][1]} at {unsaid[0][0]} ({len(unsaid)} in all)"


@rule
def verify_invents_no_damage(case: Case) -> Iterator[str]:
    if case.verify:
        said = {(row["target"], _object(row["object"])) for row in case.verify.document["damaged"]}
        behind = {
            (row.target, "register") for row in case.after.good.voters if row.sequence < case.after.catalogue.sequence
        }
        if invented := sorted(said - case.after.damaged - case.after.rotten - behind):
            yield f"verify calls {invented[0][1]} at {invented[0][0]} damaged, and it is not"


@rule
def verify_exits_0_only_when_every_copy_is_there(case: Case) -> Iterator[str]:
    if case.verify and case.verify.code == DONE:
        copies = case.after.catalogue.copies
        short = {name for name in case.acknowledged if case.after.copies(case.after.good, name) < copies}
        if short:
            yield f"verify exits 0, and these have fewer than {copies} copies: {_short(short)}"
        for target, name in sorted(_damage_in_reach(case, case.verify))[:1]:
            yield f"verify exits 0, and {name} at {target} is damaged"


@rule
def verify_exits_0_when_all_is_well(case: Case) -> Iterator[str]:
    if case.verify and case.after.all_well and case.verify.code != DONE:
        yield f"verify exits {case.verify.code} though all is well"


@rule
def verify_names_what_is_lost(case: Case) -> Iterator[str]:
    if case.verify and not case.after.away:
        lost = set(case.acknowledged) - case.after.restorable(case.after.good)
        if lost and case.verify.code != DAMAGE:
            yield f"verify exits {case.verify.code}, and these cannot be restored: {_short(lost)}"


def _damage_in_reach(case: Case, verify: Answer) -> set[Copy]:
    """The damage at targets that the verification does not call offline."""
    offline = {row["target"] for row in verify.document["offline"]}
    return {copy for copy in case.after.damaged if copy[0] not in offline}


def _named(said: Answer) -> set[Copy]:
    return {(row["target"], _object(row["object"])) for part in ("damaged", "missing") for row in said.document[part]}


def _object(name: str) -> str:
    """The oracle speaks of a register as one thing, whichever of its records is bad."""
    return "register" if name.startswith(("manifest/acc", "register")) else name


# survive


@rule
def survive_says_what_a_loss_leaves(case: Case) -> Iterator[str]:
    """Exactly, when every damage is known; else between what the bytes and what the listings say."""
    if case.survive is None:
        return
    scenarios = [((), case.survive.document["summary"])]
    scenarios += [(tuple(row["lost"]), row["summary"]) for row in case.survive.document["scenarios"]]
    for lost, summary in scenarios:
        least, most = _outlook(case, case.now.targets_of(lost))
        if not least <= summary["restorable"] <= most:
            true = f"{least}" if least == most else f"{least} to {most}"
            yield f"survive says {summary['restorable']} of {summary['total']} after losing {lost or 'nothing'}; true: {true}"


def _outlook(case: Case, loss: frozenset[str]) -> tuple[int, int]:
    """How many snapshots a loss leaves, at least and at most.

    What an older head lists may count or not: a register that went back in time is not trusted by a host that saw it further.
    """
    newest = case.now.catalogue.sequence
    bytes_ = case.now.good
    current = replace(
        bytes_,
        voters=tuple(row for row in bytes_.voters if row.sequence == newest),
        mirrors=tuple(row for row in bytes_.mirrors if row.sequence == newest),
    )
    trusted = _without(
        current, case.shown
    )  # a finding stands until the copy is read again, though it may be whole by now
    seen = bytes_ if case.everything_shown else _without(case.now.listed, case.shown & case.now.damaged)
    return len(case.now.restorable(trusted, loss)), len(case.now.restorable(seen, loss))


@rule
def survive_exit_code_agrees_with_its_document(case: Case) -> Iterator[str]:
    if case.survive is None:
        return
    document = case.survive.document
    short = any(
        row["summary"]["restorable"] < row["summary"]["total"] for row in document["scenarios"] if row["promised"]
    )
    wanted = DAMAGE if document["summary"]["restorable"] < document["summary"]["total"] else MISSED if short else DONE
    if case.survive.code != wanted:
        yield f"survive exits {case.survive.code} instead of {wanted}"


# repair


@rule
def repair_heals_what_it_says(case: Case) -> Iterator[str]:
    """When every site is there, every damage was known and nothing is lost, exit 0 means that all is well."""
    if case.step.verb != "repair" or case.did is None or case.did.code != DONE:
        return
    there = not case.after.away and not case.after.unwritable
    if there and case.before.damaged <= case.known and not case.after.whole:
        left = sorted((*case.after.damaged, *case.after.missing))
        yield f"repair exits 0, and all is not well: {left[:1] or 'copies are missing'}"


@rule
def repair_puts_markers_back(case: Case) -> Iterator[str]:
    """A flipped bit in a marker takes a target offline; a repair that exits 0 has mended it."""
    if case.step.verb == "repair" and case.did is not None and case.did.code == DONE:
        bad = sorted(target for target, name in case.after.damaged if name == MARKER)
        yield from (f"repair exits 0, and {target} stays offline for its damaged marker" for target in bad[:1])


def _without(stock: Stock, bad: frozenset[Copy]) -> Stock:
    """The stock without copies that are known to be bad."""
    at = {name: frozenset(t for t in targets if (t, name) not in bad) for name, targets in stock.at.items()}
    voters = tuple(row for row in stock.voters if (row.target, "register") not in bad)
    return replace(stock, at=at, voters=voters)


def _short(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name[:8] for name in names)) or "none"
