"""`doctor`: gathers the facts concurrently, then assesses them.

Invariants
    Targets that hang cost at most `targets.TOTAL_S`, and their earlier results count.
"""

import itertools
import tempfile
import time
from pathlib import Path

from drtool.errors import TargetHung
from drtool.events import Emit, Stage
from drtool.operations.doctor.catalogue import gather_catalogue
from drtool.operations.doctor.facts import CatalogueFacts, Facts
from drtool.operations.doctor.findings import Diagnosis
from drtool.operations.doctor.host import gather_host
from drtool.operations.doctor.judging import diagnose
from drtool.operations.doctor.request import DoctorRequest
from drtool.operations.doctor.targets import TOTAL_S, gather_targets
from drtool.repository.known_targets import beyond_configuration
from drtool.repository.places import overlap
from drtool.stores import Errand


def doctor(request: DoctorRequest, emit: Emit) -> Diagnosis:
    """Inspect everything, and return the diagnosis."""
    emit(Stage(name="inspecting this host"))
    host = gather_host(request)
    emit(Stage(name="inspecting the targets"))
    ends_at = time.monotonic() + TOTAL_S
    beyond = beyond_configuration(request.spec.state_dir, request.targets) if request.spec else []
    named = {spec.name: spec.url for spec in request.targets}
    specs = (*request.targets, *(spec for spec in beyond if spec.name not in named))
    # a hung thread may still write there, so files that cannot be removed are left
    with tempfile.TemporaryDirectory(prefix="drtool-doctor-", ignore_cleanup_errors=True) as private:
        catalogue = _begin(request, Path(private))
        targets = gather_targets(specs, ends_at, read_only=request.read_only, emit=emit)
        told = _end(catalogue, ends_at)
    pairs = itertools.combinations(specs, 2)
    password = request.password
    return diagnose(
        Facts(
            config_path=str(request.config_path) if request.config_path else None,
            config_problems=tuple((row.where, row.message, row.hint) for row in request.config_problems),
            password=(password.told, password.problem, password.hint),
            host=host,
            targets=targets,
            overlaps=tuple((one.name, other.name) for one, other in pairs if overlap(one.url, other.url)),
            beyond=tuple((spec.name, spec.url, named.get(spec.name)) for spec in beyond),
            catalogue=told,
            read_only=request.read_only,
        )
    )


def _begin(request: DoctorRequest, private: Path) -> Errand[CatalogueFacts] | None:
    spec = request.spec
    return None if spec is None or not request.targets else Errand(lambda: gather_catalogue(spec, private))


def _end(errand: Errand[CatalogueFacts] | None, ends_at: float) -> CatalogueFacts | None:
    if errand is None:
        return None
    try:
        return errand.result(ends_at - time.monotonic(), "the catalogue")
    except TargetHung as error:
        return CatalogueFacts(refusal=(error.kind, error.message, error.hint))
