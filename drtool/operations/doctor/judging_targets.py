"""What the facts about targets mean. PURE."""

import shlex
from collections.abc import Iterator

from drtool.operations.doctor.facts import Facts, TargetFacts
from drtool.operations.doctor.findings import Finding

SKEW_WARNED_S = 60
SKEW_REFUSED_S = 15 * 60
"""S3 does not take what is signed by a clock that is further off."""
ROOM_BYTES = 1 << 30


def judge_target(target: TargetFacts, facts: Facts) -> Iterator[Finding]:
    """One target by itself, and against the repository that most of them belong to."""
    yield from _clock(target)
    if target.refusal is not None:
        _, message, hint = target.refusal
        hint = hint or "mount it, bring its server back, or correct its URL; the other targets are used meanwhile"
        yield Finding(level="error", what="unreachable", where=target.name, message=message, hint=hint)
        return
    if target.step is not None:
        yield _hung(target)
    yield from _identity(target, facts)
    yield from _writing(target)
    yield from _keeping(target)
    if target.free_bytes is not None and target.free_bytes < ROOM_BYTES:
        yield Finding(
            level="warning",
            what="room",
            where=target.name,
            message=f"{target.free_bytes >> 20} MiB are free",
            hint="free some space there: drtool forget and drtool prune, or add a target",
        )


def judge_beyond(facts: Facts) -> Iterator[Finding]:
    """Targets that this host reached where the configuration does not lead: they are used in need, and only by this host."""
    for name, url, configured in facts.beyond:
        says = "does not name it" if configured is None else f"says {configured}"
        yield Finding(
            level="warning",
            what="known-target",
            where=name,
            message=f"this host reached it at {url}, and the configuration {says}",
            hint=f"correct it under `sites:`; `{shlex.join(('drtool', 'connect', url))} --write-config FILE` writes a whole file",
        )


def _clock(target: TargetFacts) -> Iterator[Finding]:
    skew_s = target.skew_s
    if skew_s is None or abs(skew_s) <= SKEW_WARNED_S:
        return
    refused = target.kind == "s3" and abs(skew_s) > SKEW_REFUSED_S
    way = "behind" if skew_s > 0 else "ahead of"
    more = ", and S3 refuses what is signed more than 15 minutes off" if refused else ""
    yield Finding(
        level="error" if refused else "warning",
        what="clock",
        where=target.name,
        message=f"this host's clock is {abs(skew_s):.0f} s {way} the clock there{more}",
        hint="set both by NTP: timedatectl set-ntp true",
    )


def _hung(target: TargetFacts) -> Finding:
    """It did not end in time: what hangs, or is only slow."""
    if not target.reached:
        message = f"it did not answer in time ({target.step})"
        hint = "a mount that hangs? mount it anew, or take its disk or server for lost"
        return Finding(level="error", what="unreachable", where=target.name, message=message, hint=hint)
    return Finding(
        level="warning",
        what="slow",
        where=target.name,
        message=f"it was reached, and {target.step} did not end in time",
        hint="look at the line and at the server; drtool benchmark measures both",
    )


def _identity(target: TargetFacts, facts: Facts) -> Iterator[Finding]:
    if target.unmarked:
        yield Finding(
            level="error",
            what="no-repository",
            where=target.name,
            message="it can be reached and holds no repository; an unmounted disk looks like this",
            hint="mount it; or add it anew: drtool target add",
        )
    elif target.foreign is not None:
        yield Finding(
            level="error",
            what="wrong-target",
            where=target.name,
            message=target.foreign,
            hint="correct the configuration's URLs: two may be swapped",
        )
    elif target.repository is not None:
        others = [row.repository for row in facts.targets if row.repository is not None]
        common = max(sorted(set(others)), key=others.count)
        if target.repository != common or others.count(common) * 2 == len(others) != others.count(target.repository):
            yield Finding(
                level="error",
                what="another-repository",
                where=target.name,
                message=f"it belongs to the repository {target.repository}, which not all targets belong to",
                hint="leave the targets of one repository under `sites:`",
            )


def _writing(target: TargetFacts) -> Iterator[Finding]:
    if target.write_refusal is not None:
        _, message, hint = target.write_refusal
        hint = hint or "look at its server, and at its log"
        yield Finding(level="error", what="write", where=target.name, message=message, hint=hint)
    if target.delete_refusal is not None:
        yield Finding(
            level="warning",
            what="delete",
            where=target.name,
            message=f"it may be written, and nothing deleted: {target.delete_refusal[1]}",
            hint="right for a place that only grows; else prune needs permission to delete",
        )
    if target.write_tried and target.delete_refusal is None and target.write_refusal is None:
        yield Finding(level="ok", what="write", where=target.name, message="written, read and deleted")
    if target.leftovers:
        message = f"the remains of {target.leftovers} earlier trials below probe/ were removed"
        yield Finding(level="note", what="leftovers", where=target.name, message=message)


def _keeping(target: TargetFacts) -> Iterator[Finding]:
    if target.keeps_locked:
        yield Finding(
            level="note",
            what="locked",
            where=target.name,
            message="its bucket locks objects: what is deleted stays until its lock ends",
            hint="count on that room being used; prune frees it later",
        )
    elif target.keeps_versions:
        yield Finding(
            level="note",
            what="versions",
            where=target.name,
            message="its bucket keeps older versions: what is deleted still takes room",
            hint="a lifecycle rule that ends noncurrent versions gives the room back",
        )


def judge_places(facts: Facts) -> Iterator[Finding]:
    """Targets against each other."""
    for one, other in facts.overlaps:
        yield Finding(
            level="error",
            what="overlap",
            where=f"{one}, {other}",
            message="these two targets are the same place, or one lies within the other",
            hint="give each a place of its own",
        )
    at: dict[str, list[TargetFacts]] = {}
    for target in facts.targets:
        if target.place is not None and target.reached:
            at.setdefault(target.place, []).append(target)
    for place, targets in at.items():
        sites = sorted({target.name.partition("/")[0] for target in targets})
        if len(sites) > 1:
            yield Finding(
                level="warning",
                what="one-failure-domain",
                where=", ".join(sites),
                message=f"these sites are all on one {place}: what takes that takes all their copies",
                hint="a site is what is lost at once: put them on different disks or servers, or make them one site",
            )
