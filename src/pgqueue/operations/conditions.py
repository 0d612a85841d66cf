"""A `JobFilter` as conditions of SQL, on the tables of unfinished and of finished jobs alike."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext
from pgqueue.arguments import as_ids, checked_name, checked_time, number_array, shown
from pgqueue.errors import InvalidJob
from pgqueue.operations.models import JobFilter

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_IDS = 10_000
_CONTAINS = (
    "history is not null and exists (select from jsonb_array_elements(history) h (entry) "
    "where position(lower(%s) in lower(h.entry ->> 'error')) > 0)"
)


@attrs.frozen
class Conditions:
    """What rows have to fit, and with which parameters."""

    text: str
    """Each condition with `and` before it."""
    params: tuple[object, ...]

    def __add__(self, other: Conditions) -> Conditions:
        return Conditions(self.text + other.text, self.params + other.params)


NOTHING = Conditions("", ())


def _text(what: str) -> Callable[[Any], object]:
    return lambda value: jsontext.checked_text(value, what)


def _name(what: str) -> Callable[[Any], object]:
    return lambda value: checked_name(value, what)


def _error_class(value: Any) -> object:  # noqa: ANN401 - it is checked here
    name = jsontext.checked_text(value, "error_class")
    return jsontext.dumps([{"error_class": name}], "error_class")


def _time(what: str) -> Callable[[Any], datetime | None]:
    return lambda value: checked_time(value, what)


def _ids(value: Any) -> object:  # noqa: ANN401 - it is checked here
    ids = as_ids(value)
    if len(ids) > _MOST_IDS:
        raise InvalidJob(f"{len(ids):,} ids are given; pass at most {_MOST_IDS:,} at a time")
    return number_array(ids)


_ALL: dict[str, tuple[str, Callable[[Any], object]]] = {
    "ids": ("id = any(%s::bigint[])", _ids),
    "queue": ("queue = %s", _name("queue")),
    "kind": ("kind = %s", _name("kind")),
    "tag": ("%s = any(tags)", _text("tag")),
    "ref": ("ref = %s", _text("ref")),
    "worker": ("worker = %s", _text("worker")),
    "tenant": ("tenant = %s", _name("tenant")),
    "error_class": ("history @> %s::jsonb", _error_class),
    "error": (_CONTAINS, _text("error")),
    "payload": ("payload @> %s::jsonb", jsontext.dumps),
    "enqueued_after": ("enqueued_at >= %s", _time("enqueued_after")),
    "enqueued_before": ("enqueued_at < %s", _time("enqueued_before")),
}
_FINISHED: dict[str, tuple[str, Callable[[Any], object]]] = {
    # A job finishes after it was enqueued: whole partitions need not be read.
    "enqueued_after": ("finished_at >= %s", _time("enqueued_after")),
    "finished_after": ("finished_at >= %s", _time("finished_after")),
    "finished_before": ("finished_at < %s", _time("finished_before")),
}


def _given(wanted: JobFilter, known: dict[str, tuple[str, Callable[[Any], object]]]) -> Conditions:
    found = NOTHING
    for name, (text, checked) in known.items():
        value = getattr(wanted, name)
        if value is not None:
            found += Conditions(f" and {text}", (checked(value),))
    return found


def checked_filter(wanted: object) -> JobFilter:
    """`wanted`, if it is a filter whose parts are what they should be.

    Raises:
        InvalidJob: it is not.
    """
    if not isinstance(wanted, JobFilter):
        raise InvalidJob(f"{shown(wanted)} is no filter; pass a pgqueue.JobFilter")
    finished(wanted)
    return wanted


def unfinished(wanted: JobFilter) -> Conditions:
    """What rows of the table of unfinished jobs have to fit, their states aside."""
    return _given(wanted, _ALL)


def finished(wanted: JobFilter) -> Conditions:
    """What rows of the archive have to fit, their states aside."""
    return _given(wanted, _ALL) + _given(wanted, _FINISHED)
