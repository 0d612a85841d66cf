"""Why a job does not run: facts of one moment, and what they mean."""

from pgqueue.why.models import Explanation, Gate, GateCode, GateLevel
from pgqueue.why.statements import WhyStatements

__all__ = ["Explanation", "Gate", "GateCode", "GateLevel", "WhyStatements"]
