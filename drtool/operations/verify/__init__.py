"""Verify: is what should exist there, and is it whole?"""

from drtool.operations.verify.request import Damaged, Missing, VerifyRequest, VerifyResult
from drtool.operations.verify.run import verify

__all__ = ["Damaged", "Missing", "VerifyRequest", "VerifyResult", "verify"]
