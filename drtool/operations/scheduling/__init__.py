"""Timers: the jobs of a configuration as systemd or cron files, and their installation."""

from drtool.operations.scheduling.files import Change, apply
from drtool.operations.scheduling.jobs import Job, Place, jobs_of

__all__ = ["Change", "Job", "Place", "apply", "jobs_of"]
