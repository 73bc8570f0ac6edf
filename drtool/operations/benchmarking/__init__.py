"""Benchmark: what this machine and these targets can do, measured with drtool's own code, and the settings that follow."""

from drtool.operations.benchmarking.request import BenchmarkRequest
from drtool.operations.benchmarking.results import BenchmarkResult, CompressionSpeed, MachineSpeed, TargetSpeed
from drtool.operations.benchmarking.run import benchmark

__all__ = ["BenchmarkRequest", "BenchmarkResult", "CompressionSpeed", "MachineSpeed", "TargetSpeed", "benchmark"]
