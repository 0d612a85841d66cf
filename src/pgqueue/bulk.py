"""Bulk enqueue: jobs in batches, by COPY or each as one call of enqueue_many.

COPY is the faster way in, but it looks neither for dedupe keys nor at the payload cap. So a batch
goes through the function that is small, or has a key, or a payload that might be over the cap as
Postgres counts it. All do where row security keeps tenants apart.

One COPY takes several batches: the next one is made while the server stores the last. Measured (2
cores, Postgres 18.6, 200,000 small pairs): 220,000 jobs/s; 205,000 when the columns of pairs that
are always the same were sent, too. (Earlier, on 100,000: 125,000 when each pair was made a NewJob
first, 65,000 with a COPY for each batch.)
"""

from __future__ import annotations

import time
from array import array
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pgqueue.arguments import checked_job, checked_name, job_text
from pgqueue.copytext import (
    COLUMNS,
    PAIR_COLUMNS,
    BulkJob,
    Lines,
    only_pairs,
    payload_texts,
)
from pgqueue.errors import InvalidJob
from pgqueue.models import DEFAULT_PRIORITY, EnqueueManyResult, NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgqueue.statements import Statements, Steps

BATCH = 2_000
SMALL_BATCH = 100
MOST_RESERVED = 8 * BATCH
COPY_SECONDS = 0.05
"""A COPY goes on no longer: a role's statement_timeout counts the time that `jobs` take, too."""


def _batches(jobs: Iterable[BulkJob]) -> Iterator[list[BulkJob]]:
    """The jobs, checked, in lists of up to 2,000, of which it holds one."""
    kinds: set[str] = set()
    iterator = iter(jobs)
    while batch := [_checked(job, kinds) for job in islice(iterator, BATCH)]:
        yield batch


def _checked(job: Any, kinds: set[str]) -> BulkJob:  # noqa: ANN401 - anything at all
    """`job` if it can be stored; `kinds` are those of pairs that were checked already."""
    if isinstance(job, NewJob):
        return checked_job(job)
    if not isinstance(job, tuple):
        raise InvalidJob(f"a job is a {type(job).__name__}; pass (kind, payload) or a NewJob")
    try:
        kind, payload = job
    except ValueError:
        raise InvalidJob(
            f"a job is a tuple of {len(job)}; pass (kind, payload) or a NewJob"
        ) from None
    if type(kind) is not str or kind not in kinds:
        kind = checked_name(kind, "kind")
        kinds.add(kind)
    return kind, payload


class Bulk:
    """The storing of one bulk: which statements, in what order, and what became of its jobs."""

    def __init__(
        self, statements: Statements, jobs: Iterable[BulkJob], queue: str, *, overlap: bool
    ) -> None:
        """See `Client.enqueue_many`; with `overlap`, `jobs` are asked for while a COPY is open."""
        self._statements = statements
        self._jobs = jobs
        self._queue = checked_name(queue, "queue")
        self._overlap = overlap
        self._begin(_batches(jobs))

    def _begin(self, batches: Iterator[list[BulkJob]]) -> None:
        self._batches = batches
        self._batch: list[BulkJob] | None = None
        self._kept: list[list[BulkJob]] | None = []  # all that was taken; None from the second on
        self._asking = False
        self._cap = 0
        self._may_copy = True
        self._places: list[tuple[int, int]] = []  # the next one last
        self._reserved = 0
        self._lanes: set[tuple[str, int]] = set()
        self._ids = array("q")
        self._duplicates = 0

    def steps(self) -> Steps[EnqueueManyResult]:
        """The statements, in a transaction."""
        if self._take_next() is not None:
            limits = yield self._statements.limits()
            now, default_attempts, self._cap, self._may_copy = limits
            self._lines = Lines(self._queue, now, default_attempts)
        while self._batch is not None:
            payloads = self._payloads(self._batch)
            if payloads is not None:
                if new := self._lanes_of(self._batch) - self._lanes:
                    yield self._statements.mark_lanes(sorted(new))
                yield from self._reserve(len(self._batch))
                columns = PAIR_COLUMNS if only_pairs(self._batch) else COLUMNS
                pieces = self._pieces(self._batch, payloads, columns)
                yield self._statements.copy_jobs(columns, pieces)
            else:
                texts = (job_text(self._as_new_job(job)) for job in self._batch)
                rows = yield self._statements.enqueue_many(texts)
                self._ids.extend(row[0] for row in rows)
                self._duplicates += sum(row[1] for row in rows)
                self._batch = None
            if self._batch is None:
                self._take_next()
        if self._lanes:
            yield self._statements.enqueued(sorted(self._lanes))
        return EnqueueManyResult(self._ids, self._duplicates)

    def restart(self) -> bool:
        """Begins anew, its transaction undone; False if `jobs` cannot be had again, or failed."""
        if self._asking:
            return False
        again = iter(self._jobs)
        if again is not self._jobs:
            self._begin(_batches(again))
        elif self._kept is not None:
            self._begin(chain(self._kept, self._batches))
        else:
            return False
        return True

    def _as_new_job(self, job: BulkJob) -> NewJob:
        return job if isinstance(job, NewJob) else NewJob(*job, queue=self._queue)

    def _take_next(self) -> list[BulkJob] | None:
        self._asking = True
        self._batch = next(self._batches, None)
        self._asking = False
        if self._batch is not None:
            self._kept = [self._batch] if self._kept == [] else None
        return self._batch

    def _payloads(self, batch: Sequence[BulkJob]) -> list[str] | None:
        """The payloads as JSON, if COPY can store the batch and is worth its round trips."""
        if (
            not self._may_copy
            or len(batch) < SMALL_BATCH
            or any(isinstance(job, NewJob) and job.dedupe_key is not None for job in batch)
        ):
            return None
        return payload_texts(batch, self._cap)

    def _reserve(self, count: int) -> Steps[None]:
        """Sees to `count` places, and from the second time on to some for what may follow.

        What is left over at the end are gaps in the sequences.
        """
        lacking = count - len(self._places)
        if lacking > 0:
            if self._overlap and count == BATCH:
                lacking = max(lacking, min(self._reserved, MOST_RESERVED))
            more = yield self._statements.reserve(lacking)
            self._places = [*reversed(more), *self._places]
            self._reserved += lacking

    def _pieces(self, batch: list[BulkJob], payloads: Sequence[str], columns: str) -> Iterator[str]:
        """The text of one COPY, which goes on while places are left and not much time is over."""
        until = time.monotonic() + COPY_SECONDS
        while True:
            places = self._places[: -len(batch) - 1 : -1]
            del self._places[-len(batch) :]
            self._ids.extend(place[0] for place in places)
            self._lanes.update(self._lanes_of(batch))
            yield self._lines.text(batch, payloads, places)
            self._batch = None
            if not self._overlap or not self._places or time.monotonic() > until:
                return
            following = self._take_next()
            if following is None or len(following) > len(self._places):
                return
            if only_pairs(following) != (columns == PAIR_COLUMNS):
                return
            more = self._payloads(following)
            if more is None:
                return
            batch, payloads = following, more

    def _lanes_of(self, batch: Sequence[BulkJob]) -> set[tuple[str, int]]:
        if only_pairs(batch):
            return {(self._queue, DEFAULT_PRIORITY)}
        return {(job.queue, job.priority) for job in map(self._as_new_job, batch)}
