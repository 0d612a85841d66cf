"""A job without what its payload says, for `Dashboard(redact=hide_payload)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from pgqueue.masking import HIDDEN
from pgqueue.models import Attempt, JobDetail


def hide_payload(job: JobDetail) -> JobDetail:
    """`job` with each string and number of its payload, result and metadata as ***.

    The keys stay, and so do true, false and null. Of errors the class stays; messages and
    tracebacks, in which payloads are quoted, do not, nor do dedupe keys and refs.
    """
    return attrs.evolve(
        job,
        payload=_hidden(job.payload),
        result=_hidden(job.result),
        metadata=_hidden_metadata(job.metadata),
        history=tuple(_quiet(each) for each in job.history),
        dedupe_key=None if job.dedupe_key is None else HIDDEN,
        ref=None if job.ref is None else HIDDEN,
    )


def _hidden(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {key: _hidden(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(each) for each in value]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _hidden_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    ours = ("schedule", "slot")
    return {key: each if key in ours else _hidden(each) for key, each in metadata.items()}


def _quiet(each: Attempt) -> Attempt:
    return attrs.evolve(
        each,
        error=None if each.error is None else HIDDEN,
        traceback=None if each.traceback is None else HIDDEN,
    )
