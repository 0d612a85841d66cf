"""The audit in words."""

from __future__ import annotations

from collections.abc import Iterator

from pgqueue.demo.audit import Audit, Recovery

_WIDTH = 78


def report(audit: Audit) -> Iterator[str]:
    """The account, line by line, for 80 columns."""
    found = f"{audit.lines:,} lines, {audit.functions:,} functions, {audit.classes:,} classes"
    yield ""
    yield "Audit, from the database"
    yield f"  enqueued   {audit.enqueued:>7,}"
    yield f"  succeeded  {audit.succeeded:>7,}  {found}"
    yield f"  dead       {audit.dead:>7,}  attempts used up"
    yield f"  ran twice  {audit.expired:>7,}  their worker was gone before it had finished them"
    yield f"  speed      {audit.jobs_per_second:>7,.0f}  jobs a second, over {audit.seconds:.1f} s"
    yield from _recovery(audit.recovery)
    yield from _tables(audit)
    yield ""
    yield from _verdict(audit)


def _recovery(recovery: Recovery | None) -> Iterator[str]:
    if recovery is None:
        return
    if recovery.ready_seconds is None or recovery.running_seconds is None:
        yield "  recovery      none  the killed worker held no jobs"
        return
    ready, running = recovery.ready_seconds, recovery.running_seconds
    jobs = f"{recovery.jobs} job{'' if recovery.jobs == 1 else 's'}"
    yield f"  recovery   {ready:>6.1f}s  from the kill until its {jobs} were ready again"
    yield f"             {running:>6.1f}s  until all had started, behind those that waited already"


def _tables(audit: Audit) -> Iterator[str]:
    yield ""
    yield "Largest files"
    for lines, file in audit.largest:
        yield _cut(f"  {lines:>6,} lines  {file}")
    yield "Longest functions"
    for lines, function, file in audit.longest:
        yield _cut(f"  {lines:>6,} lines  {function} in {file}")
    yield "Failures" if audit.failures else "Failures: none"
    for failure in audit.failures:
        yield f"  {failure.jobs:>6,} x {failure.error}"
        for file, message in failure.examples:
            yield _cut(f"           {file}: {message}")
        if failure.jobs > len(failure.examples):
            yield f"           and {failure.jobs - len(failure.examples):,} more"


def _verdict(audit: Audit) -> Iterator[str]:
    sums = f"{audit.enqueued:,} enqueued = {audit.succeeded:,} succeeded + {audit.dead:,} dead"
    if audit.passed:
        yield f"lost 0: {sums}"
        return
    yield f"lost {audit.lost}, finished more than once {audit.twice}"
    yield f"THE AUDIT FAILED: not {sums}"


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
