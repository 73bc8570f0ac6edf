"""Assessment of the facts: findings, worst first. Pure.

Invariants
    A fact that is unknown yields no finding that makes a claim about it.
    Every warning and every error has a hint.
"""

from collections.abc import Iterator

from drtool.operations.doctor.facts import DirectoryFacts, Facts, FileFacts, HostFacts
from drtool.operations.doctor.findings import Diagnosis, Finding, Level, TargetReport
from drtool.operations.doctor.judging_catalogue import judge_catalogue
from drtool.operations.doctor.judging_targets import judge_beyond, judge_places, judge_target

ORDER: tuple[Level, ...] = ("error", "warning", "note", "ok")
FILES_MIN = 1024
CACHE_ROOM_BYTES = 1 << 30
LITTLE_ROOM_BYTES = 64 << 20
OTHERS = 0o077
CONFIG = "config"
"""The prefix of configuration findings. They alone make the exit code 2."""


def diagnose(facts: Facts) -> Diagnosis:
    """Return all findings."""
    found = [*_config(facts), *_password(facts), *_host(facts.host), *_targets(facts), *judge_catalogue(facts)]
    found.sort(key=lambda finding: ORDER.index(finding.level))
    votes = {voter.target for voter in facts.catalogue.voters} if facts.catalogue and facts.catalogue.voters else None
    return Diagnosis(
        healthy=not any(finding.level == "error" for finding in found),
        findings=found,
        targets=[
            TargetReport(
                name=target.name,
                reachable=target.reached,
                latency_seconds=target.latency_s,
                conditional_writes=target.can_vote,
                clock_skew_seconds=target.skew_s,
                free_bytes=target.free_bytes,
                votes=None if votes is None else target.name in votes,
            )
            for target in facts.targets
        ],
    )


def exit_code(diagnosis: Diagnosis) -> int:
    """Return 2 if only the configuration is in error, 1 if anything else is, else 0."""
    errors = [finding for finding in diagnosis.findings if finding.level == "error"]
    if not errors:
        return 0
    return 2 if all(finding.what.startswith(CONFIG) for finding in errors) else 1


def _config(facts: Facts) -> Iterator[Finding]:
    for where, message, hint in facts.config_problems:
        yield Finding(level="error", what=CONFIG, where=where, message=message, hint=hint or "correct the file")
    if facts.config_path is not None and not facts.config_problems:
        yield Finding(level="ok", what=CONFIG, where=facts.config_path, message="the configuration is valid")


def _password(facts: Facts) -> Iterator[Finding]:
    told, problem, hint = facts.password
    if problem is not None:
        hint = hint or "give --password-file FILE, or put password_file into the configuration"
        yield Finding(level="error", what="password", where=told, message=problem, hint=hint)
    else:
        yield Finding(level="ok", what="password", where=told, message="there is a password")


def _host(host: HostFacts) -> Iterator[Finding]:
    for file in host.files:
        yield from _file(file)
    for directory in host.directories:
        yield from _directory(directory)
    yield from _sources(host)
    yield from _uncapturable(host)
    yield from _tools(host)
    yield from _limits(host)
    for name, version in host.versions:
        yield Finding(level="note", what="version", where=name, message=f"{name} {version}")


def _file(file: FileFacts) -> Iterator[Finding]:
    what = "password-file" if file.role.startswith("password") else "ssh-files"
    if file.problem is not None:
        yield Finding(
            level="error",
            what=what,
            where=file.path,
            message=f"the {file.role} cannot be used: {file.problem}",
            hint="correct its path in the configuration, or put it there",
        )
    elif file.secret and file.mode is not None and file.mode & OTHERS:
        yield Finding(
            level="warning",
            what=f"{what}-mode",
            where=file.path,
            message=f"the {file.role} has mode {file.mode:04o}: other users of this host may be able to read it",
            hint=f"chmod 600 {file.path}",
        )


def _directory(directory: DirectoryFacts) -> Iterator[Finding]:
    what, where = directory.role.replace(" ", "-"), directory.path
    if not directory.writable:
        why = directory.problem or "it is not writable"
        yield Finding(
            level="error",
            what=what,
            where=where,
            message=f"the {directory.role} cannot be used: {why}",
            hint="check who owns it, its mode, and whether its file system is read-only",
        )
    if directory.mode is not None and directory.mode & OTHERS:
        yield Finding(
            level="warning",
            what=f"{what}-mode",
            where=where,
            message=f"the {directory.role} has mode {directory.mode:04o}: other users may be able to read it",
            hint=f"chmod 700 {where}",
        )
    wanted_bytes = CACHE_ROOM_BYTES if "cache" in directory.role else LITTLE_ROOM_BYTES
    if directory.writable and directory.free_bytes is not None and directory.free_bytes < wanted_bytes:
        yield Finding(
            level="warning",
            what=f"{what}-room",
            where=where,
            message=f"{directory.free_bytes >> 20} MiB are free for the {directory.role}",
            hint="make room there, or put it elsewhere (DRTOOL_CACHE_DIR, DRTOOL_STATE_DIR)",
        )


def _sources(host: HostFacts) -> Iterator[Finding]:
    for source in host.sources:
        where = f"source {source.name}"
        if not source.exists:
            yield Finding(
                level="warning",
                what="source-missing",
                where=where,
                message=f"{source.path} is not there",
                hint="mount it, or correct the source's paths",
            )
        for inside in source.contains:
            yield Finding(
                level="warning",
                what="source-contains",
                where=where,
                message=f"{source.path} contains the {inside}: each backup would store the previous ones again",
                hint="exclude it in the source, or put it elsewhere",
            )


def _uncapturable(host: HostFacts) -> Iterator[Finding]:
    for source in host.uncapturable:
        yield Finding(
            level="error",
            what="source-uncapturable",
            where=f"source {source.name}",
            message=source.problem,
            hint=source.hint or "a backup of it would fail now: drtool backup --dry-run --source shows the details",
        )


def _tools(host: HostFacts) -> Iterator[Finding]:
    for program, purpose in host.missing_programs:
        yield Finding(
            level="error",
            what="tool-missing",
            where=program,
            message=f"the program {program} is missing, which is needed for {purpose}",
            hint="install it, or correct the configuration",
        )
    for library, purpose in host.missing_libraries:
        yield Finding(
            level="error",
            what="tool-missing",
            where=library,
            message=f"the Python library {library} is missing, which is needed for {purpose}",
            hint=f"install it beside drtool: pip install {library}",
        )
    for target in host.keyless:
        yield Finding(
            level="warning",
            what="ssh-key",
            where=target,
            message="no SSH key is named, none is in ~/.ssh, and there is no agent (cron has none)",
            hint="name one: identity_file beside the target's url",
        )


def _limits(host: HostFacts) -> Iterator[Finding]:
    if 0 <= host.files_max < FILES_MIN:
        yield Finding(
            level="warning",
            what="open-files",
            where="this host",
            message=f"a process may open {host.files_max} files; drtool needs {FILES_MIN}",
            hint=f"ulimit -n {FILES_MIN}, or LimitNOFILE= in the service",
        )
    if host.core_bytes_max != 0:
        yield Finding(
            level="note",
            what="core-dumps",
            where="this host",
            message="a process that crashes may leave its memory, keys included, in a core dump",
            hint="ulimit -c 0, or LimitCORE=0 in the service",
        )


def _targets(facts: Facts) -> Iterator[Finding]:
    for target in facts.targets:
        yield from judge_target(target, facts)
    yield from judge_beyond(facts)
    yield from judge_places(facts)
