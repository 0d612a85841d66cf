"""Measures pgqueue on a database: each figure beside its floor, the same writes made by hand.

`pgqueue bench` and `benchmarks/claim_throughput.py` both run `suite.run`. Figures of different
runs, or of different machines, do not compare; the ratios to the floors of the same run do.
"""

from pgqueue.bench.suite import Measure, Plan, run

__all__ = ["Measure", "Plan", "run"]
