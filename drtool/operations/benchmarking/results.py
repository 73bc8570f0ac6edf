"""What was measured. PURE. Every rate is in bytes a second; None was not measured, whatever the reason."""

from msgspec import Struct


class CompressionSpeed(Struct, frozen=True, kw_only=True):
    """One level of zstd on text; `ratio`: how many bytes of text became one. `used`: the level that drtool stores with."""

    level: int
    bytes_per_second: float
    ratio: float
    used: bool


class MachineSpeed(Struct, frozen=True, kw_only=True):
    """One core, but for what says `all_workers`. `pack_…`: cut, hashed, compressed, sealed and named, as a backup does."""

    cpus: int
    workers: int
    chunk_bytes_per_second: float
    hash_bytes_per_second: float
    seal_bytes_per_second: float
    compression: list[CompressionSpeed]
    pack_random_bytes_per_second: float
    pack_text_bytes_per_second: float
    all_workers_pack_random_bytes_per_second: float
    all_workers_pack_text_bytes_per_second: float
    disk_read_bytes_per_second: float | None
    disk_read_directory: str


class TargetSpeed(Struct, frozen=True, kw_only=True):
    """`put_…` and `get_…` by one transfer after the other, `parallel_…` with so many at once, of `object_bytes` each."""

    name: str
    near: bool
    problem: str | None = None
    object_bytes: int | None = None
    parallel: int | None = None
    put_bytes_per_second: float | None = None
    parallel_put_bytes_per_second: float | None = None
    get_bytes_per_second: float | None = None
    parallel_get_bytes_per_second: float | None = None
    latency_seconds: float | None = None
    latency_p95_seconds: float | None = None


class BenchmarkResult(Struct, frozen=True, kw_only=True):
    machine: MachineSpeed
    targets: list[TargetSpeed]
    advice: list[str]
