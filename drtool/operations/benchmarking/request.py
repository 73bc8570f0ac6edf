"""The request of `benchmark`: what to measure, and the setup for the advice."""

from pathlib import Path

from msgspec import Struct

from drtool.repository.spec import TargetSpec

MIB = 1 << 20


class BenchmarkRequest(Struct, frozen=True, kw_only=True):
    """`seconds` and `size_bytes`: limits for each target and direction. `directory`: where disk reading is measured."""

    targets: tuple[TargetSpec, ...]
    directory: Path
    workers: int
    copies: int
    upload_bytes_s: int | None = None
    seconds: float = 3.0
    size_bytes: int = 256 * MIB
