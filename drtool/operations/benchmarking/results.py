"""The results of `benchmark`. Pure. Rates are in bytes per second. None: not measured, for any reason."""

from msgspec import Struct


class CompressionSpeed(Struct, frozen=True, kw_only=True):
    """One level of zstd on text.

    `ratio`: original size by compressed size. `used`: whether drtool stores with this level.
    """

    level: int
    bytes_per_second: float
    ratio: float
    used: bool


class MachineSpeed(Struct, frozen=True, kw_only=True):
    """Rates of one core, except for `all_workers_…`.

    `pack_…`: chunking, hashing, compressing and sealing as in a backup.
    """

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
    """`put_…`, `get_…`: sequential transfers. `parallel_…`: `parallel` transfers at once. Each is of `object_bytes`."""

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
