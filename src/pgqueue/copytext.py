"""Jobs as COPY reads them: lines of columns, in Postgres' text format."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeAlias

from pgqueue import jsontext
from pgqueue.arguments import backoff_text, metadata_text
from pgqueue.errors import InvalidJob
from pgqueue.models import DEFAULT_PRIORITY, NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgqueue.jsontext import Json

BulkJob: TypeAlias = "NewJob | tuple[str, Json]"
"""What enqueue_many takes: a NewJob, or a pair of kind and payload."""

COLUMNS = (
    "id, position, run_at, enqueued_at, queue, kind, priority, payload, max_attempts, backoff, "
    "tags, metadata, ref"
)
_NULL = "\\N"
_MOST_DIGITS = 56
"""5e-324 has six characters in Python and 326 in Postgres."""
_SURE_FACTOR = 4 * _MOST_DIGITS
"""A payload of so many times fewer characters than the cap has bytes is surely below it."""
_EXPONENT = re.compile(r"[0-9]e[-+]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def payload_texts(batch: Sequence[BulkJob], cap: int) -> list[str] | None:
    """The payloads as JSON; None if one, or its metadata, might be over `cap` bytes in Postgres."""
    texts = []
    dumps, surely = jsontext.dumps, cap // _SURE_FACTOR
    for job in batch:
        if isinstance(job, NewJob):
            text = dumps(job.payload)
            if job.metadata is not None and not _fits(metadata_text(job) or "", cap):
                return None
        else:
            text = "{}" if job[1] is None else dumps(job[1])
        if len(text) > surely and not _fits(text, cap):
            return None
        texts.append(text)
    return texts


def _fits(text: str, cap: int) -> bool:
    """Whether JSON is surely no longer than `cap` bytes as Postgres writes it."""
    # It puts a space after each comma and colon, and writes all digits of 1e-300.
    growth = _MOST_DIGITS if _EXPONENT.search(text) else 1.5
    return len(text.encode()) * growth <= cap


class Lines:
    """Writes jobs as lines, with the ids and positions that were reserved for them."""

    def __init__(self, queue: str, now: datetime, default_attempts: int) -> None:
        """`queue` is that of pairs; `now` is the database's time."""
        # In another zone, a day of Python's has 23 to 25 hours.
        self._now = now.astimezone(timezone.utc)
        self._now_text = self._now.isoformat()
        self._default_attempts = default_attempts
        times = f"{self._now_text}\t{self._now_text}"
        self._before_kind = f"\t{times}\t{queue}\t"
        self._before_payload = f"\t{DEFAULT_PRIORITY}\t"
        nothing = "\t".join([_NULL] * 4)
        self._after_payload = f"\t{default_attempts}\t{nothing}\n"

    def text(
        self,
        batch: Sequence[BulkJob],
        payloads: Sequence[str],
        places: Iterable[tuple[int, int]],
    ) -> str:
        """The batch; `places` are pairs of id and position.

        Raises:
            InvalidJob: a delay is too long.
        """
        return "".join(self._lines(batch, payloads, places))

    def _lines(
        self,
        batch: Sequence[BulkJob],
        payloads: Sequence[str],
        places: Iterable[tuple[int, int]],
    ) -> Iterator[str]:
        # Most bulks are of pairs, whose lines differ in four places.
        before_kind, before_payload = self._before_kind, self._before_payload
        after_payload = self._after_payload
        for job, payload, (job_id, position) in zip(batch, payloads, places, strict=True):
            text = payload.replace("\\", "\\\\") if "\\" in payload else payload
            if isinstance(job, NewJob):
                yield self._line(job, text, job_id, position)
            else:
                yield (
                    f"{job_id}\t{position}{before_kind}{job[0]}{before_payload}{text}{after_payload}"
                )

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
