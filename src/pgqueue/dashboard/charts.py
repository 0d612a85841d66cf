"""Pictures as SVG, made here: they need no script, follow the theme, and print.

A chart library (uPlot, say) would draw a canvas that knows neither, and would be the only script
from elsewhere, for at most some 300 points. What it would add, values under the pointer, each
column's <title> gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs
from markupsafe import Markup

from pgqueue.dashboard.rendering import compact, length
from pgqueue.models import JobState

if TYPE_CHECKING:
    from pgqueue.models import JobDetail

_STEPS = (1, 2, 2.5, 3, 4, 5, 6, 8)
_EMPTY = Markup("")
_TOP = 100.0
"""The height of a picture in its own units; it is stretched to the place that it is given.

Texts stand beside it as HTML, so that they are not stretched, whatever the screen.
"""
_FEW = 90
"""Columns; more are too narrow for gaps between them."""


@attrs.frozen
class Series:
    """One row of values: how it is called, and its class in the style sheet."""

    label: str
    style: str
    values: Sequence[float | None]


def _nice(top: float) -> float:
    """The least of 1, 2, 2.5, 3, ... 10, 20, ... that is not below `top`."""
    if top <= 0:
        return 1
    size = 10.0 ** math.floor(math.log10(top))
    return next((size * step for step in _STEPS if size * step >= top), size * 10)


def _say(value: float, unit: str) -> str:
    return length(value) if unit == "s" else compact(value)


def _picture(
    label: str, times: Sequence[datetime], top: float, unit: str, inner: Sequence[Markup]
) -> Markup:
    """A picture with its axes."""
    count = len(times)
    grid = _EMPTY.join(
        Markup('<line class="{}" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
            "axis" if y == _TOP else "grid", count, y, y
        )
        for y in (0, _TOP / 2, _TOP)
    )
    up = [_say(top, unit), _say(top / 2, unit), "0"]
    along = [f"{times[int((count - 1) * part)]:%H:%M}" for part in (0, 0.25, 0.5, 0.75, 1)]
    return Markup(
        '<div class="chart"><div class="up" aria-hidden="true">{}</div>'
        '<svg viewBox="0 0 {} {:g}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}</svg>'
        '<div class="along" aria-hidden="true">{}</div></div>'
    ).format(_spans(up), count, _TOP, label, grid, _EMPTY.join(inner), _spans(along))


def _spans(texts: Sequence[str]) -> Markup:
    return _EMPTY.join(Markup("<span>{}</span>").format(text) for text in texts)


def _slots(times: Sequence[datetime], series: Sequence[Series], unit: str) -> Markup:
    """Invisible columns that say their values when they are pointed at."""
    parts = []
    for index, time in enumerate(times):
        shown = [
            f"{each.label}: {_say(value, unit)}"
            for each in series
            if (value := each.values[index]) is not None
        ]
        said = "\n".join([f"{time:%Y-%m-%d %H:%M} UTC", *shown])
        parts.append(
            Markup(
                '<rect class="slot" x="{}" y="0" width="1" height="{:g}"><title>{}</title></rect>'
            ).format(index, _TOP, said)
        )
    return _EMPTY.join(parts)


def bars(label: str, times: Sequence[datetime], series: Sequence[Series]) -> Markup:
    """Stacked columns, one for each time."""
    count = len(times)
    totals = [sum(each.values[i] or 0 for each in series) for i in range(count)]
    top = _nice(max(totals, default=0))
    gap = 0.2 if count <= _FEW else 0.0
    parts = []
    for index in range(count):
        base = 0.0
        for each in series:
            height = _TOP * (each.values[index] or 0) / top
            if height:
                base += height
                parts.append(
                    Markup(
                        '<rect class="bar-{}" x="{:g}" y="{:.2f}" width="{:g}" height="{:.2f}"/>'
                    ).format(each.style, index + gap / 2, _TOP - base, 1 - gap, height)
                )
    return _picture(label, times, top, "", [*parts, _slots(times, series, "")])


def lines(
    label: str, times: Sequence[datetime], series: Sequence[Series], unit: str = ""
) -> Markup:
    """Lines; they have gaps where nothing is known."""
    top = _nice(max((v for each in series for v in each.values if v is not None), default=0))
    parts = [
        Markup('<path class="line-{}" d="{}"/>').format(each.style, _path(each.values, top))
        for each in series
    ]
    return _picture(label, times, top, unit, [*parts, _slots(times, series, unit)])


def _path(values: Sequence[float | None], top: float) -> str:
    parts, begun = [], False
    for index, value in enumerate(values):
        if value is not None:
            y = _TOP - _TOP * value / top
            # A value alone is a short line.
            parts.append(f"L{index + 0.5:g} {y:.2f}" if begun else f"M{index + 0.3:g} {y:.2f}h0.2")
        begun = value is not None
    return "".join(parts)


def spark(label: str, values: Sequence[float]) -> Markup:
    """A small line without axes."""
    count, width, height = len(values), 110, 26
    top = max(max(values, default=0), 1)
    points = [
        f"{width * i / max(count - 1, 1):.1f} {height - 2 - (height - 4) * v / top:.1f}"
        for i, v in enumerate(values)
    ]
    if not points:
        return _EMPTY
    line = "M" + "L".join(points)
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><path class="fill" d="{}L{} {}L0 {}Z"/><path d="{}"/></svg>'
    ).format(width, height, label, line, width, height, height, line)


_MOST_PARTS = 24


@attrs.frozen
class Stretch:
    """A part of a job's life."""

    style: str
    label: str
    begin: datetime
    end: datetime


def stretches(job: JobDetail, now: datetime) -> list[Stretch]:
    """A job's life in parts: waits, attempts and the pauses between, as far as it is known."""
    found: list[Stretch] = []
    at = job.enqueued_at
    for each in job.history:
        if each.started is None or each.ended is None:
            continue
        if each.started > at:
            style, label = ("wait", "waited") if not found else ("backoff", "waited")
            found.append(Stretch(style, label, at, each.started))
        style = "good" if each.outcome in ("skipped", "snoozed") else "bad"
        label = f"attempt {each.attempt} {each.outcome}"
        found.append(Stretch(style, label, each.started, each.ended))
        at = max(at, each.ended)
    claimed = job.claimed_at
    waits = "backoff" if found else "wait"
    if claimed is not None and claimed >= at and (job.finished_at or job.lease_until):
        if claimed > at:
            found.append(Stretch(waits, "waited", at, claimed))
        found.append(_last(job, claimed, now))
    elif job.finished_at is None and now > at:
        found.append(Stretch(waits, "waits", at, now))
    return found


def _last(job: JobDetail, claimed: datetime, now: datetime) -> Stretch:
    if job.finished_at is None:
        return Stretch("run", f"attempt {job.attempt} runs", claimed, now)
    style = "good" if job.state is JobState.SUCCEEDED else "bad"
    return Stretch(style, f"attempt {job.attempt} {job.state}", claimed, job.finished_at)


def timeline(job: JobDetail, now: datetime) -> Markup:
    """A job's life from its enqueue on, one line for each part."""
    parts = stretches(job, now)
    if not parts:
        return _EMPTY
    begin = parts[0].begin
    whole = max((max(each.end for each in parts) - begin).total_seconds(), 0.001)
    rows = []
    for each in parts[-_MOST_PARTS:]:
        took = max(each.end - each.begin, timedelta(0))
        rows.append(
            Markup(
                "<li><span>{}</span>"
                '<svg viewBox="0 0 {:g} 1" preserveAspectRatio="none" aria-hidden="true">'
                '<rect class="{}" x="{:.3f}" y="0" width="{:.3f}" height="1">'
                "<title>{:%H:%M:%S} to {:%H:%M:%S} UTC</title></rect></svg><span>{}</span></li>"
            ).format(
                each.label, _TOP, each.style,
                _TOP * min((each.begin - begin).total_seconds() / whole, 0.994),
                max(_TOP * took.total_seconds() / whole, 0.6), each.begin, each.end, length(took),
            )
        )  # fmt: skip
    return Markup('<ol class="timeline">{}</ol>').format(_EMPTY.join(rows))
