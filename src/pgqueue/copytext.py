"""Jobs as COPY reads them: lines of columns, in Postgres' text format."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from pgqueue import jsontext
from pgqueue.arguments import backoff_text, metadata_text
from pgqueue.errors import InvalidJob
from pgqueue.models import NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgqueue.jsontext import Json

BulkJob: TypeAlias = "NewJob | tuple[str, Json]"
"""What enqueue_many takes: a NewJob, or a pair of kind and payload."""

COLUMNS = (
    "id, position, run_at, enqueued_at, queue, kind, priority, payload, max_attempts, backoff, "
    "tags, metadata, ref"
)
PAIR_COLUMNS = "id, position, queue, kind, payload, max_attempts"
"""Those of a batch that has only pairs: the rest are the table's defaults, which spares the server
an eighth of its time (measured: 3.3 us a row instead of 3.8)."""
_NULL = "\\N"
_MOST_DIGITS = 56
"""5e-324 has six characters in Python and 326 in Postgres."""
_SURE_FACTOR = 4 * _MOST_DIGITS
"""A payload of so many times fewer characters than the cap has bytes is surely below it."""
_EXPONENT = re.compile(r"[0-9]e[-+]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def only_pairs(batch: Sequence[BulkJob]) -> bool:
    """Whether the lines of the batch have no more than `PAIR_COLUMNS`."""
    return set(map(type, batch)) == {tuple}


def payload_texts(batch: Sequence[BulkJob], cap: int) -> list[str] | None:
    """The payloads as JSON; None if one, or its metadata, might be over `cap` bytes in Postgres."""
    texts = [_payload_text(job) for job in batch]
    surely = cap // _SURE_FACTOR
    if max(map(len, texts)) > surely and not all(_fits(text, cap) for text in texts):
        return None
    metadata = (metadata_text(job) for job in batch if isinstance(job, NewJob))
    if not all(text is None or _fits(text, cap) for text in metadata):
        return None
    return texts


def _payload_text(job: BulkJob) -> str:
    if isinstance(job, NewJob):
        return jsontext.dumps(job.payload)
    return "{}" if job[1] is None else jsontext.dumps(job[1])


def _fits(text: str, cap: int) -> bool:
    """Whether JSON is surely no longer than `cap` bytes as Postgres writes it."""
    # It puts a space after each comma and colon, and writes all digits of 1e-300.
    growth = _MOST_DIGITS if _EXPONENT.search(text) else 1.5
    return len(text.encode()) * growth <= cap


class Lines:
    """Writes jobs as lines, with the ids and positions that were reserved for them."""

    def __init__(self, queue: str, now: datetime, default_attempts: int) -> None:
        """`queue` is that of pairs; `now` is the database's time."""
        self._queue = queue
        # In another zone, a day of Python's has 23 to 25 hours.
        self._now = now.astimezone(timezone.utc)
        self._now_text = self._now.isoformat()
        self._default_attempts = default_attempts

    def text(
        self,
        batch: Sequence[BulkJob],
        payloads: Sequence[str],
        places: Iterable[tuple[int, int]],
    ) -> str:
        """The batch; `places` are pairs of id and position. All columns, unless all are pairs.

        Raises:
            InvalidJob: a delay is too long.
        """
        lines = self._pairs if only_pairs(batch) else self._lines
        return "".join(lines(batch, payloads, places))

    def _pairs(
        self,
        batch: Iterable[Any],
        payloads: Iterable[str],
        places: Iterable[tuple[int, int]],
    ) -> Iterator[str]:
        before, after = f"\t{self._queue}\t", f"\t{self._default_attempts}\n"
        for (kind, _), payload, (job_id, position) in zip(batch, payloads, places, strict=True):
            text = payload.replace("\\", "\\\\") if "\\" in payload else payload
            yield f"{job_id}\t{position}{before}{kind}\t{text}{after}"

    def _lines(
        self,
        batch: Iterable[BulkJob],
        payloads: Iterable[str],
        places: Iterable[tuple[int, int]],
    ) -> Iterator[str]:
        for job, payload, (job_id, position) in zip(batch, payloads, places, strict=True):
            new_job = job if isinstance(job, NewJob) else NewJob(*job, queue=self._queue)
            text = payload.replace("\\", "\\\\")
            yield self._line(new_job, text, job_id, position)

    def _line(self, job: NewJob, payload: str, job_id: int, position: int) -> str:
        run_at, place = self._now_text, str(position)
        if job.run_at is not None or job.delay is not None:
            moment = self._run_at(job)
            run_at, place = moment.isoformat(), place if moment <= self._now else _NULL
        backoff, tags, metadata = backoff_text(job), job.tags, metadata_text(job)
        return (
            f"{job_id}\t{place}\t{run_at}\t{self._now_text}\t{job.queue}\t{job.kind}\t"
            f"{job.priority}\t{payload}\t{job.max_attempts or self._default_attempts}\t"
            f"{_NULL if backoff is None else _field(backoff)}\t"
            f"{_NULL if tags is None else _field(_text_array(tags))}\t"
            f"{_NULL if metadata is None else _field(metadata)}\t"
            f"{_NULL if job.ref is None else _field(job.ref)}\n"
        )

    def _run_at(self, job: NewJob) -> datetime:
        if job.run_at is not None:
            return job.run_at
        try:
            return self._now + (job.delay or timedelta(0))
        except OverflowError:
            raise InvalidJob(
                f"delay is {job.delay!r}; pass one that ends before the year 9999"
            ) from None


def _field(text: str) -> str:
    return text.translate(_ESCAPES)


def _text_array(texts: Iterable[str]) -> str:
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    return "{" + ",".join(quoted) + "}"
