"""Doctor: what of the configuration, this host and the targets is not as it should be, and what to do about it."""

from drtool.operations.doctor.findings import Diagnosis, Finding, TargetReport
from drtool.operations.doctor.request import ConfigProblem, DoctorRequest, PasswordSource
from drtool.operations.doctor.run import doctor

__all__ = ["ConfigProblem", "Diagnosis", "DoctorRequest", "Finding", "PasswordSource", "TargetReport", "doctor"]
