"""Timers: what runs when, as files of systemd or of cron, and what is installed of it."""

from drtool.operations.scheduling.files import Change, apply
from drtool.operations.scheduling.jobs import Job, Place, jobs_of

__all__ = ["Change", "Job", "Place", "apply", "jobs_of"]
