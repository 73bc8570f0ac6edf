"""`benchmark`: the speed of this machine and its targets, measured with drtool's own code, and advice on settings."""

from drtool.operations.benchmarking.request import BenchmarkRequest
from drtool.operations.benchmarking.results import BenchmarkResult, CompressionSpeed, MachineSpeed, TargetSpeed
from drtool.operations.benchmarking.run import benchmark

__all__ = ["BenchmarkRequest", "BenchmarkResult", "CompressionSpeed", "MachineSpeed", "TargetSpeed", "benchmark"]
