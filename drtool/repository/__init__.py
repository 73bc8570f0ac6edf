"""Stores, ring and manifest combined: open a repository, write packs and snapshots, read chunks, take inventory."""

from drtool.repository.founding import InitResult, found
from drtool.repository.opening import open_repository
from drtool.repository.repository import Repository
from drtool.repository.spec import RepositorySpec, TargetSpec

__all__ = ["InitResult", "Repository", "RepositorySpec", "TargetSpec", "found", "open_repository"]
