"""`doctor`: find what is wrong and advise what to do. One fault does not stop the other checks."""

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.call import Call, targets_of
from drtool.cli.core.passwords import PasswordOrigin, inherited, password_origin
from drtool.cli.core.settings import Settings, named_config, resolve
from drtool.cli.core.text import Document, count, document_of, size
from drtool.cli.core.trust import check_config, check_named_files, trust_of
from drtool.cli.core.view import Cell, Line, Style, Table, View, line, table, view
from drtool.config import Config
from drtool.config.salvage import salvage
from drtool.errors import ConfigError, DrtoolError

if TYPE_CHECKING:
    from drtool.operations.doctor import ConfigProblem, DoctorRequest, PasswordSource

_PLACED = re.compile(r"(?s)(.+?:[0-9]+:[0-9]+): (.+)")
_STYLES: dict[str, Style] = {"error": "bad", "warning": "warn", "note": "dim", "ok": "good"}


def doctor(
    context: typer.Context,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, and skip the checks that need writing.")
    ] = False,
) -> None:
    """Check configuration, targets, clocks and tools.

    Each finding comes with advice. One fault does not stop the other checks. Small objects are written below probe/
    at each target and removed again, unless --read-only is given. Checks that hang delay the command by at most 30
    seconds in total. Exit 1 if any check reports an error, 2 if only the configuration has errors.

    Examples:
        drtool doctor
        drtool doctor --read-only
        drtool doctor --json | jq -r '.findings[] | select(.level == "error") | .message'
    """
    from drtool.operations.doctor import doctor as run_doctor
    from drtool.operations.doctor.judging import exit_code

    call: Call = context.obj
    diagnosis = run_doctor(_request(call, read_only=read_only), call.emit)
    document = document_of(diagnosis)
    call.show(document, doctor_view(document), exit_code=exit_code(diagnosis))


def _request(call: Call, *, read_only: bool) -> "DoctorRequest":
    from drtool.operations.doctor import DoctorRequest

    faults: list[ConfigError] = []
    settings = _settings(call, faults)
    try:
        call.check_configured()
    except ConfigError as error:
        if not faults:
            faults.append(error)
    path, config = settings.config_path, settings.config
    beside = path.parent if path else Path()
    targets = targets_of(config, beside)
    password = _password(call, settings)
    return DoctorRequest(
        config_path=path,
        config_problems=tuple(problem for fault in faults for problem in _problems(fault, path)),
        targets=targets,
        sources=tuple(
            (name, beside / os.path.expanduser(text))
            for name, source in config.sources.items()
            for text in source.named_paths
        ),
        directories=(("state directory", settings.state_dir), ("cache directory", settings.cache_dir)),
        password=password,
        programs=_programs(call, settings),
        has_agent=bool(os.environ.get("SSH_AUTH_SOCK")),
        home=Path.home(),
        spec=call.spec(targets, makes=False) if targets and password.problem is None else None,
        read_only=read_only,
        captures=tuple((name, source) for name, source in config.sources.items() if source.kind != "paths"),
        beside=beside,
        environ=inherited(),
    )


def _settings(call: Call, faults: list[ConfigError]) -> Settings:
    """Return the settings, with the usable parts of a faulty configuration."""

    directory = Path.cwd()
    trust = trust_of(named=named_config(call.options, os.environ, directory) is not None)

    def load(path: Path) -> Config:
        try:
            check_config(path, trust)
            config, fault = salvage(path)
            faults.extend([fault] if fault is not None else [])
            check_named_files(config, path, directory, trust)
        except ConfigError as error:  # nothing that an untrusted user may have written is used
            faults.append(error)
            return Config()
        return config

    call.settings = resolve(call.options, os.environ, directory, load)
    return call.settings


def _problems(fault: ConfigError, path: Path | None) -> "list[ConfigProblem]":
    """Return one problem for each line of the fault's message, which begins with its place."""
    from drtool.operations.doctor import ConfigProblem

    found = []
    for sentence in fault.problems:
        placed = _PLACED.fullmatch(sentence)
        where, message = (placed[1], placed[2]) if placed else (str(path or "the configuration"), sentence)
        found.append(ConfigProblem(where=where, message=message, hint=fault.hint))
    return found


def _password(call: Call, settings: Settings) -> "PasswordSource":
    from drtool.operations.doctor import PasswordSource

    origin = _origin(call, settings)
    told, file = (origin.told, origin.file) if origin else ("the terminal", None)
    try:
        settings.password()
    except DrtoolError as error:
        return PasswordSource(told=told, problem=error.message, hint=error.hint)
    return PasswordSource(told=told, file=file)


def _origin(call: Call, settings: Settings) -> PasswordOrigin | None:
    return password_origin(call.options, os.environ, settings.config, settings.config_path)


def _programs(call: Call, settings: Settings) -> tuple[tuple[str, str], ...]:
    origin = _origin(call, settings)
    if origin is None or origin.command is None:
        return ()
    words = shlex.split(origin.command) if isinstance(origin.command, str) else origin.command
    return ((words[0], "the password"),) if words else ()


def doctor_view(document: Document) -> View:
    """Show the targets, then the findings. Checks that passed are only counted."""
    parts: list[Line | Table] = []
    if document["targets"]:
        parts += [table("TARGET REACHED LATENCY> CLOCK> VOTES FREE>", [_target_row(t) for t in document["targets"]])]
        parts.append(line(""))
    told = [row for row in document["findings"] if row["level"] not in ("ok", "note") or row["hint"]]
    for row in told:
        parts += _finding(row)
    plain = [row for row in document["findings"] if row["level"] == "note" and not row["hint"]]
    versions = [row["message"] for row in plain if row["what"] == "version"]
    parts += [line(Cell(f"note: {row['where']}: {row['message']}", "dim")) for row in plain if row["what"] != "version"]
    parts += [line(Cell("versions: " + ", ".join(versions), "dim"))] if versions else []
    well = sum(row["level"] == "ok" for row in document["findings"])
    errors = sum(row["level"] == "error" for row in document["findings"])
    warnings = sum(row["level"] == "warning" for row in document["findings"])
    head = "healthy" if document["healthy"] else "needs attention"
    tail = f": {count(errors, 'error')}, {count(warnings, 'warning')}; {count(well, 'check')} passed"
    parts.append(line(Cell(head, "good" if document["healthy"] else "bad"), tail))
    return view(*parts)


def _finding(row: Document) -> list[Line]:
    head = Cell(f"{row['level']}: ", _STYLES[row["level"]])
    first = line(head, Cell(f"{row['where']}: ", "strong"), f"{row['message']} [{row['what']}]")
    return [first, line(Cell(f"    {row['hint']}", "dim"))] if row["hint"] else [first]


def _target_row(row: Document) -> list[Cell | str]:
    skew, free = row["clock_skew_seconds"], row["free_bytes"]
    return [
        Cell(row["name"], "strong"),
        Cell("yes", "good") if row["reachable"] else Cell("no", "bad"),
        "-" if row["latency_seconds"] is None else f"{row['latency_seconds'] * 1000:.1f} ms",
        "-" if skew is None else f"{skew:+.0f} s",
        {None: "-", True: "yes", False: "no"}[row["votes"]],
        "-" if free is None else size(free),
    ]
