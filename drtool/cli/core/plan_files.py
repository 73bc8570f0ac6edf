"""The files of plans: the configured directory, and the plan that a word on the command line names."""

from pathlib import Path
from typing import TYPE_CHECKING

from drtool.cli.core.trust import trust_of

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.config.trust import Trust
    from drtool.plans.language import Plan


def plans_directory(call: "Call") -> Path | None:
    """Return the directory of the plans, or None if there is none."""
    path, config = call.settings.config_path, call.settings.config
    if path is None:
        return None
    if config.plans is not None:
        return path.parent / config.plans
    return path.parent / "plans" if (path.parent / "plans").is_dir() else None


def plan_file(call: "Call", word: str) -> Path:
    """Return the file that FILE or ID names. The configuration is read only for an ID. Raise UsageError."""
    from drtool.plans.library import SUFFIXES, find_plan

    is_file = "/" in word or word.endswith(SUFFIXES)
    return find_plan(word, Path(), None if is_file else plans_directory(call))


def trusted_plan(call: "Call", word: str, file: Path) -> "Plan":
    """Return the plan in `file`, which FILE or ID named.

    Raise ConfigError, also for one that an untrusted user may have written.
    """
    from drtool.plans.language import load_plan
    from drtool.plans.library import read_trusted

    return load_plan(file, read_trusted(trust_of_plan(call, word)))


def trust_of_plan(call: "Call", word: str) -> "Trust":
    """Return who may have written a plan.

    A file named on the command line is trusted as the user is. A file found by id is not.
    """
    from drtool.plans.library import SUFFIXES

    return trust_of(named=True) if "/" in word or word.endswith(SUFFIXES) else call.settings.trust
