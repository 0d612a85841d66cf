"""Pictures as SVG, made here: they need no script, follow the theme, and print.

A chart library (uPlot, say) would draw a canvas that knows neither, and would be the only script
from elsewhere, for at most some 300 points. What it would add, values under the pointer, each
column's <title> gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs
from markupsafe import Markup

from pgqueue.dashboard.rendering import compact, length

if TYPE_CHECKING:
    from pgqueue.models import JobDetail

WIDTH, HEIGHT = 720, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 6, 10, 22
_STEPS = (1, 2, 5)
_EMPTY = Markup("")


@attrs.frozen
class Series:
    """One row of values: how it is called, and its class in the style sheet."""

    label: str
    style: str
    values: Sequence[float | None]


def _nice(top: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not below `top`."""
    if top <= 0:
        return 1
    size = 1.0
    while size < top:
        size *= 10
    while size / 10 >= top:
        size /= 10
    return next((size / 10 * step for step in _STEPS if size / 10 * step >= top), size)


def _x(index: float, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * index / max(count, 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _frame(times: Sequence[datetime], top: float, unit: str) -> Markup:
    parts = []
    for part in (0, 0.5, 1):
        y = _y(top * part, top)
        label = length(top * part) if unit == "s" else compact(top * part)
        parts.append(
            Markup(
                '<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(
                "axis" if part == 0 else "grid", _LEFT, WIDTH - _RIGHT, y, y, _LEFT - 8, y + 4,
                "0" if part == 0 else label,
            )
        )  # fmt: skip
    count = len(times)
    for index in sorted({0, count // 4, count // 2, 3 * count // 4, count - 1} - {-1}):
        anchor = "start" if index == 0 else "end" if index == count - 1 else "middle"
        x = _x(index + 0.5, count)
        parts.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{:%H:%M}</text>').format(
                x, HEIGHT - 5, anchor, times[index]
            )
        )
    return _EMPTY.join(parts)


def _slots(times: Sequence[datetime], series: Sequence[Series], unit: str) -> Markup:
    """Invisible columns that say their values when they are pointed at."""
    count = len(times)
    width = _x(1, count) - _x(0, count)
    parts = []
    for index, time in enumerate(times):
        shown = [
            f"{each.label}: {length(value) if unit == 's' else compact(value)}"
            for each in series
            if (value := each.values[index]) is not None
        ]
        said = "\n".join([f"{time:%Y-%m-%d %H:%M} UTC", *shown])
        parts.append(
            Markup(
                '<rect class="slot" x="{:.1f}" y="{}" width="{:.2f}" height="{}">'
                "<title>{}</title></rect>"
            ).format(_x(index, count), _TOP, width, HEIGHT - _TOP - _BOTTOM, said)
        )
    return _EMPTY.join(parts)


def _svg(label: str, inner: Markup, height: float = HEIGHT, style: str = "chart") -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {:g}" role="img" aria-label="{}">{}</svg>').format(
        style, WIDTH, height, label, inner
    )


def bars(label: str, times: Sequence[datetime], series: Sequence[Series]) -> Markup:
    """Stacked columns, one for each time."""
    count = len(times)
    totals = [sum(each.values[i] or 0 for each in series) for i in range(count)]
    top = _nice(max(totals, default=0))
    gap = 0.18 if count <= 90 else 0.0  # noqa: PLR2004 - more are too narrow for gaps
    width = max((_x(1, count) - _x(0, count)) * (1 - gap), 0.8)
    parts = [_frame(times, top, "")]
    for index in range(count):
        base = 0.0
        for each in series:
            value = each.values[index] or 0
            if value:
                y = _y(base + value, top)
                parts.append(
                    Markup(
                        '<rect class="bar-{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>'
                    ).format(each.style, _x(index + gap / 2, count), y, width, _y(base, top) - y)
                )
            base += value
    parts.append(_slots(times, series, ""))
    return _svg(label, _EMPTY.join(parts))


def lines(
    label: str, times: Sequence[datetime], series: Sequence[Series], unit: str = ""
) -> Markup:
    """Lines; they have gaps where nothing is known."""
    top = _nice(max((v for each in series for v in each.values if v is not None), default=0))
    parts = [_frame(times, top, unit)]
    for each in series:
        path = _path(each.values, lambda i: _x(i + 0.5, len(times)), lambda v: _y(v, top))
        parts.append(Markup('<path class="line-{}" d="{}"/>').format(each.style, path))
    parts.append(_slots(times, series, unit))
    return _svg(label, _EMPTY.join(parts))


def _path(values: Sequence[float | None], x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    parts, pen = [], "M"
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x(index):.1f} {y(value):.1f}")
        if pen == "M":
            parts.append("h0.1")  # a value alone is a dot
        pen = "L"
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
    good = ("skipped", "snoozed")
    for each in job.history:
        if each.started is None or each.ended is None:
            continue
        if each.started > at:
            style, label = ("wait", "waited") if not found else ("backoff", "waited")
            found.append(Stretch(style, label, at, each.started))
        style = "good" if each.outcome in good else "bad"
        found.append(Stretch(style, f"attempt {each.attempt} {each.outcome}", each.started, each.ended))
        at = max(at, each.ended)
    if job.claimed_at is not None and job.claimed_at >= at and (
        job.finished_at is not None or job.lease_until is not None
    ):
        if job.claimed_at > at:
            found.append(Stretch("backoff" if found else "wait", "waited", at, job.claimed_at))
        end = job.finished_at or now
        style = "run" if job.finished_at is None else "good" if str(job.state) == "succeeded" else "bad"
        what = "runs" if job.finished_at is None else str(job.state)
        found.append(Stretch(style, f"attempt {job.attempt} {what}", job.claimed_at, end))
    elif job.finished_at is None and now > at:
        found.append(Stretch("backoff" if found else "wait", "waits", at, now))
    return found


def timeline(job: JobDetail, now: datetime) -> Markup:
    """A job's life from its enqueue on, one line for each part."""
    parts = stretches(job, now)
    if not parts:
        return _EMPTY
    begin, end = parts[0].begin, max(each.end for each in parts)
    whole = max((end - begin).total_seconds(), 0.001)
    row, left = 27, 172
    scale = (WIDTH - left - 70) / whole
    drawn = []
    for index, each in enumerate(parts[-24:]):
        x = left + (each.begin - begin).total_seconds() * scale
        width = max((each.end - each.begin).total_seconds() * scale, 3)
        y = index * row
        took = length(max(each.end - each.begin, timedelta(0)))
        drawn.append(
            Markup(
                '<text class="on" x="0" y="{}">{}</text>'
                '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="17" rx="3">'
                "<title>{:%H:%M:%S} – {:%H:%M:%S} UTC</title></rect>"
                '<text x="{:.1f}" y="{}">{}</text>'
            ).format(
                y + 15, each.label, each.style, x, y + 2, width, each.begin, each.end,
                x + width + 7, y + 15, took,
            )
        )  # fmt: skip
    height = len(drawn) * row
    return _svg("What became of the job, part by part", _EMPTY.join(drawn), height, "chart timeline")
