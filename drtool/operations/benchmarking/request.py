"""What is to be measured, and of what setup the advice is to speak."""

from pathlib import Path

from msgspec import Struct

from drtool.repository.spec import TargetSpec

MIB = 1 << 20


class BenchmarkRequest(Struct, frozen=True, kw_only=True):
    """`seconds` are for each target and direction, as `size_bytes` at most are; `directory`: where reading a disk is tried."""

    targets: tuple[TargetSpec, ...]
    directory: Path
    workers: int
    copies: int
    upload_bytes_s: int | None = None
    seconds: float = 3.0
    size_bytes: int = 256 * MIB
