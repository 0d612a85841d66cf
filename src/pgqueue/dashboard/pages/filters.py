"""Which jobs a page's address asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.dashboard import forms
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState
from pgqueue.operations import JobFilter

if TYPE_CHECKING:
    from pgqueue.dashboard.options import Options

SPANS = {
    "15m": ("last 15 minutes", timedelta(minutes=15)),
    "1h": ("last hour", timedelta(hours=1)),
    "1d": ("last day", timedelta(days=1)),
    "7d": ("last 7 days", timedelta(days=7)),
}
TEXTS = ("queue", "kind", "tag", "ref", "worker", "tenant", "error_class")
SECRETS = ("error", "payload")
"""Fields whose answers tell what may be hidden."""
FIELDS = ("state", *TEXTS, *SECRETS, "since", "from", "to", "ids")
_MOST_IDS = 1000


@attrs.frozen
class Asked:
    """A filter, as the address had it and as the queue takes it."""

    query: Mapping[str, str]
    """The fields that are given."""
    filter: JobFilter

    @property
    def narrow(self) -> bool:
        """Whether anything but the state is asked for."""
        return bool(set(self.query) - {"state"})

    def words(self) -> str:
        """The filter for people."""
        parts = [f"{name.replace('_', ' ')} {self.query[name]}" for name in FIELDS
                 if name in self.query and name not in ("since", "ids")]  # fmt: skip
        if "since" in self.query:
            parts.append(SPANS[self.query["since"]][0])
        if "ids" in self.query:
            parts.append(f"{len(self.filter.ids or ())} selected")
        return ", ".join(parts) or "all jobs"


def asked(given: Mapping[str, str], options: Options, now: datetime) -> Asked:
    """The filter of a query or form.

    Raises:
        InvalidJob: a field cannot be.
    """
    query = {name: text for name in FIELDS if (text := forms.text(given, name)) is not None}
    if not options.search_payloads and set(query) & set(SECRETS):
        raise InvalidJob("payloads and errors are hidden here, and so cannot be searched")
    if query.get("since") not in (None, *SPANS):
        raise InvalidJob(f"since is {query['since']!r:.100}; pass one of {', '.join(SPANS)}")
    return Asked(query, _filter(query, now))


def _filter(query: Mapping[str, str], now: datetime) -> JobFilter:
    states = [each for each in query.get("state", "").split(",") if each]
    begin = forms.moment(query, "from", "from")
    if "since" in query:
        begin = now - SPANS[query["since"]][1]
    end = forms.moment(query, "to", "to")
    # Of jobs that have ended one asks when they ended, of others when they came.
    ended = bool(states) and all(_finished(each) for each in states)
    finished, enqueued = ((begin, end), (None, None)) if ended else ((None, None), (begin, end))
    return JobFilter(
        state=states or None,
        error=query.get("error"),
        payload=forms.value(query, "payload", "payload"),
        ids=_ids(query["ids"]) if "ids" in query else None,
        queue=query.get("queue"),
        kind=query.get("kind"),
        tag=query.get("tag"),
        ref=query.get("ref"),
        worker=query.get("worker"),
        tenant=query.get("tenant"),
        error_class=query.get("error_class"),
        finished_after=finished[0],
        finished_before=finished[1],
        enqueued_after=enqueued[0],
        enqueued_before=enqueued[1],
    )


def _finished(state: str) -> bool:
    try:
        return JobState(state).finished
    except ValueError:
        return False  # the filter says what is wrong


def _ids(text: str) -> list[int]:
    found = [forms.job_id(each) for each in text.split(",")]
    ids = [each for each in found if each is not None]
    if len(ids) < len(found) or len(ids) > _MOST_IDS:
        raise InvalidJob(f"ids is {text!r:.100}; pass up to {_MOST_IDS} ids with commas between")
    return ids
