"""`doctor`: problems of the configuration, this host and the targets, each with a remedy."""

from drtool.operations.doctor.findings import Diagnosis, Finding, TargetReport
from drtool.operations.doctor.request import ConfigProblem, DoctorRequest, PasswordSource
from drtool.operations.doctor.run import doctor

__all__ = ["ConfigProblem", "Diagnosis", "DoctorRequest", "Finding", "PasswordSource", "TargetReport", "doctor"]
