"""`benchmark`: measure this machine and the targets, and suggest settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.call import Call, targets_of
from drtool.cli.core.text import Document, document_of, size
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.config import nearest
from drtool.config.units import size_bytes
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.model import TargetName
    from drtool.operations.benchmarking import BenchmarkRequest
    from drtool.repository import TargetSpec

_SIZE_MIN_BYTES = 1 << 20


def benchmark(
    context: typer.Context,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="SITE/TARGET", help="Measure only this target (repeatable).")
    ] = None,
    no_targets: Annotated[bool, typer.Option("--no-targets", help="Measure only this machine.")] = False,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Send to each target, and read from it, for this many seconds.")
    ] = 3.0,
    limit: Annotated[
        str, typer.Option("--size", metavar="SIZE", help="Transfer at most this much to and from each target.")
    ] = "256MiB",
) -> None:
    """Measure this machine and the targets.

    The result includes settings that the figures suggest. On this machine, chunking, hashing, compression and
    encryption are measured on one core and in all workers, with the code that backups run. At each target, small
    requests are timed first. Then objects of a pack's size are written and read, one at a time and several at once.
    They are placed below probe/ and removed afterwards. No password is needed. A busy machine or network measures
    lower. Exit 1 if a target could not be measured.

    Examples:
        drtool benchmark
        drtool benchmark --no-targets
        drtool benchmark --target paris/nas --seconds 10 --size 1GiB
        drtool benchmark --json | jq .advice
    """
    from drtool.operations.benchmarking import benchmark as run_benchmark

    call: Call = context.obj
    limit_bytes = _size(limit)
    if seconds <= 0:
        raise UsageError("--seconds must be more than 0")
    specs = () if no_targets else _chosen(call, target or ())
    result = run_benchmark(_request(call, specs, seconds, limit_bytes), _weights(call), call.emit)
    document = document_of(result)
    failed = any(row["problem"] for row in document["targets"])
    call.show(document, benchmark_view(document), exit_code=int(failed))


def _size(text: str) -> int:
    try:
        found = size_bytes(text)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from None
    if found < _SIZE_MIN_BYTES:
        raise UsageError(f"--size {text} is too small to measure; give at least 1MiB")
    return found


def _chosen(call: Call, names: list[str] | tuple[str, ...]) -> "tuple[TargetSpec, ...]":
    known = {spec.name: spec for spec in call.configured_targets()}
    for name in names:
        if name not in known:
            raise UsageError(f"--target {name}: no such target{nearest(name, known)}")
    return tuple(spec for spec in known.values() if not names or spec.name in names)


def _request(call: Call, specs: "tuple[TargetSpec, ...]", seconds: float, limit_bytes: int) -> "BenchmarkRequest":
    from drtool.operations.benchmarking import BenchmarkRequest

    settings = call.settings
    storing = {name.partition("/")[0] for name in _weights(call)}
    copies = settings.config.redundancy.copies
    return BenchmarkRequest(
        targets=specs,
        directory=_nearest(settings.cache_dir),
        workers=settings.workers,
        copies=min(2, max(1, len(storing))) if copies is None else copies,
        upload_bytes_s=settings.config.limits.upload,
        seconds=seconds,
        size_bytes=limit_bytes,
    )


def _weights(call: Call) -> "dict[TargetName, int]":
    path = call.settings.config_path
    rows = targets_of(call.settings.config, path.parent) if path else ()
    return {row.name: row.weight for row in rows if row.vote != "only"}


def _nearest(path: Path) -> Path:
    """Return the directory, or its nearest existing parent."""
    while not path.is_dir():
        path = path.parent
    return path


def benchmark_view(document: Document) -> View:
    machine = document["machine"]
    parts: list[Line | Table] = [
        line(Cell(f"this machine: {machine['cpus']} cores, {machine['workers']} workers", "strong"))
    ]
    parts.append(table("STEP RATE>", _machine_rows(machine)))
    if document["targets"]:
        headings = "TARGET LATENCY> 95_%> PUT> SEVERAL> GET> SEVERAL>"
        parts += [line(""), table(headings, [_target_row(row) for row in document["targets"]])]
    for row in document["targets"]:
        parts += [line(Cell(f"{row['name']}: ", "warn"), row["problem"])] if row["problem"] else []
    parts.append(line(""))
    return view(*parts, *(line(Cell("· ", "dim"), sentence) for sentence in document["advice"]))


def _machine_rows(machine: Document) -> list[tuple[Cell | str, Cell | str]]:
    rows = [
        ("chunk", machine["chunk_bytes_per_second"]),
        ("hash", machine["hash_bytes_per_second"]),
        ("seal", machine["seal_bytes_per_second"]),
    ]
    for level in machine["compression"]:
        used = ", as configured" if level["used"] else ""
        rows.append(
            (f"compress text, level {level['level']} ({level['ratio']:.1f} to 1{used})", level["bytes_per_second"])
        )
    rows += [
        ("whole path, random data, one core", machine["pack_random_bytes_per_second"]),
        ("whole path, random data, all workers", machine["all_workers_pack_random_bytes_per_second"]),
        ("whole path, text, one core", machine["pack_text_bytes_per_second"]),
        ("whole path, text, all workers", machine["all_workers_pack_text_bytes_per_second"]),
        (f"read from {machine['disk_read_directory']}", machine["disk_read_bytes_per_second"]),
    ]
    return [(name, _rate(rate)) for name, rate in rows]


def _target_row(row: Document) -> list[Cell | str]:
    rates = (
        "put_bytes_per_second",
        "parallel_put_bytes_per_second",
        "get_bytes_per_second",
        "parallel_get_bytes_per_second",
    )
    times = ("latency_seconds", "latency_p95_seconds")
    told = ["-" if row[name] is None else f"{row[name] * 1000:.1f} ms" for name in times]
    return [Cell(row["name"], "strong"), *told, *(_rate(row[name]) for name in rates)]


def _rate(bytes_per_second: float | None) -> str:
    return "-" if bytes_per_second is None else f"{size(bytes_per_second)}/s"
