"""Finds what ails a queue, and says what to do.

from pgqueue import doctor

for finding in doctor.examine(client):  # await doctor.aexamine(async_client)
    if finding.level.needs_attention:
        print(finding.check, finding.seen, finding.advice)
"""

from __future__ import annotations

from pgqueue.doctor.examination import aexamine, examine
from pgqueue.doctor.findings import Finding, Level, Limits

__all__ = ["Finding", "Level", "Limits", "aexamine", "examine"]
