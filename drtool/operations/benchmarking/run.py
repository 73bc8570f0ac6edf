"""`benchmark`: measures this machine, then each target in turn, and derives advice."""

from collections import Counter

from drtool.events import Emit, Stage
from drtool.model import TargetName
from drtool.operations.benchmarking.advice import Setup, advise
from drtool.operations.benchmarking.machine import measure_machine
from drtool.operations.benchmarking.request import BenchmarkRequest
from drtool.operations.benchmarking.results import BenchmarkResult, TargetSpeed
from drtool.operations.benchmarking.targets import measure_target, repositories_at
from drtool.repository.places import is_directory
from drtool.repository.spec import TargetSpec


def benchmark(request: BenchmarkRequest, storing: dict[TargetName, int], emit: Emit) -> BenchmarkResult:
    """Measure. `storing`: the weights of all configured storing targets, for the advice."""
    emit(Stage(name="measuring this machine"))
    machine = measure_machine(request.workers, request.directory)
    targets = _targets(request, emit)
    setup = Setup(
        copies=request.copies,
        weights={str(name): weight for name, weight in storing.items()},
        upload_bytes_s=request.upload_bytes_s,
    )
    return BenchmarkResult(machine=machine, targets=targets, advice=advise(machine, targets, setup))


def _targets(request: BenchmarkRequest, emit: Emit) -> list[TargetSpeed]:
    repositories, refused = repositories_at(request.targets)
    common = Counter(repositories.values()).most_common(2)
    speeds = []
    for spec in request.targets:
        if spec.name in refused:
            speeds.append(_unmeasured(spec, refused[spec.name]))
        elif repositories[spec.name] != common[0][0] or (len(common) > 1 and common[0][1] == common[1][1]):
            speeds.append(
                _unmeasured(spec, f"it belongs to the repository {repositories[spec.name]}, but other targets do not")
            )
        else:
            emit(Stage(name=f"measuring {spec.name}"))
            speeds.append(measure_target(spec, request.seconds, request.size_bytes))
    return speeds


def _unmeasured(spec: TargetSpec, problem: str) -> TargetSpeed:
    return TargetSpeed(name=spec.name, near=is_directory(spec.url), problem=problem)
