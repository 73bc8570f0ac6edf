"""The facts about this host. Nothing is written: permissions come from the operating system."""

import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from drtool import __version__
from drtool.config.urls import scheme_of
from drtool.errors import DrtoolError
from drtool.operations.doctor.facts import DirectoryFacts, FileFacts, HostFacts, SourceFacts, UncapturableFacts
from drtool.operations.doctor.request import DoctorRequest
from drtool.repository.places import is_directory
from drtool.repository.spec import TargetSpec, local_path
from drtool.sources.configured import captured_source
from drtool.sources.port import Around

LIBRARIES = ("blake3", "cryptography", "msgspec", "pyfastcdc", "ruamel.yaml", "typer", "zstandard")
FOR_SCHEME = {"s3": "botocore", "sftp": "asyncssh"}
USUAL_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")


def gather_host(request: DoctorRequest) -> HostFacts:
    """Inspect directories, files, limits and libraries."""
    schemes = {scheme_of(target.url) for target in request.targets}
    needed = [(FOR_SCHEME[scheme], f"{scheme}:// targets") for scheme in sorted(schemes) if scheme in FOR_SCHEME]
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return HostFacts(
        directories=tuple(_directory(role, path) for role, path in request.directories),
        files=tuple(_files(request)),
        sources=tuple(_source(request, name, path) for name, path in request.sources),
        missing_programs=tuple(row for row in request.programs if shutil.which(row[0]) is None),
        missing_libraries=tuple(row for row in needed if find_spec(row[0]) is None),
        keyless=() if request.has_agent else tuple(_keyless(request)),
        files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        uncapturable=tuple(_uncapturable(request)),
        core_bytes_max=-1 if core == resource.RLIM_INFINITY else core,
        versions=(
            ("drtool", __version__),
            ("python", sys.version.split()[0]),
            *_versions((*LIBRARIES, *(row[0] for row in needed))),
        ),
    )


def _versions(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _directory(role: str, path: Path) -> DirectoryFacts:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mode = None
    except OSError as error:
        return DirectoryFacts(
            role=role, path=str(path), mode=None, writable=False, free_bytes=None, problem=str(error.strerror)
        )
    there = path
    while not there.exists():
        there = there.parent
    room = os.statvfs(there)
    return DirectoryFacts(
        role=role,
        path=str(path),
        mode=mode,
        writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK),
        free_bytes=room.f_bavail * room.f_frsize,
    )


def _files(request: DoctorRequest) -> Iterator[FileFacts]:
    if request.password.file is not None:
        yield _file("password file", request.password.file, secret=True)
    for target in request.targets:
        if target.access.identity_file is not None:
            yield _file(f"SSH key of {target.name}", Path(target.access.identity_file), secret=True)
        if target.access.known_hosts is not None:
            yield _file(f"known_hosts of {target.name}", Path(target.access.known_hosts), secret=False)


def _file(role: str, path: Path, *, secret: bool) -> FileFacts:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return FileFacts(role=role, path=str(path), secret=secret, mode=None, problem=str(error.strerror))
    problem = None if os.access(path, os.R_OK) else "permission denied"
    return FileFacts(role=role, path=str(path), secret=secret, mode=mode, problem=problem)


def _keyless(request: DoctorRequest) -> Iterator[str]:
    usual = any((request.home / ".ssh" / name).exists() for name in USUAL_KEYS)
    for target in request.targets:
        if scheme_of(target.url) == "sftp" and target.access.identity_file is None and not usual:
            yield target.name


def _source(request: DoctorRequest, name: str, path: Path) -> SourceFacts:
    inside = [f"target {target.name}" for target in request.targets if _is_inside(target, path)]
    inside += [role for role, place in request.directories if _below(place, path)]
    return SourceFacts(name=name, path=str(path), exists=os.path.lexists(path), contains=tuple(inside))


def _uncapturable(request: DoctorRequest) -> Iterator[UncapturableFacts]:
    """Return the sources that a dry run would fail to capture: missing programs, wrong versions, no server."""
    state_dir = next((path for role, path in request.directories if role == "state directory"), Path())
    around = Around(state_dir=state_dir, environ=request.environ, warn=_drop, problem=_drop)
    for name, config in request.captures:
        try:
            source = captured_source(config, request.beside)
            if source is not None:
                source.foresee(around)
        except DrtoolError as error:
            yield UncapturableFacts(name=name, problem=error.message, hint=error.hint)


def _drop(_: object) -> None:
    """Drop an event: warnings matter only for a real backup."""


def _is_inside(target: TargetSpec, path: Path) -> bool:
    return is_directory(target.url) and _below(local_path(target.url), path)


def _below(place: Path, path: Path) -> bool:
    return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(path))
