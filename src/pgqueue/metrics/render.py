"""Tallies as prometheus_client's families of metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.utils import floatToGoString

from pgqueue.metrics.catalog import Metric
from pgqueue.metrics.tallies import Histogram, Tallies

V = TypeVar("V")


def families(metrics: Sequence[Metric], tallies: Tallies) -> Iterator[Family]:
    """The families of `metrics`, in their order, those without samples, too."""
    for metric in metrics:
        if metric.kind == "histogram":
            yield _histogram(metric, _of(metric, tallies.histograms))
        else:
            counter = metric.kind == "counter"
            made = CounterMetricFamily if counter else GaugeMetricFamily
            family = made(metric.name, metric.help, labels=metric.labels)
            values = _of(metric, tallies.counters if counter else tallies.gauges)
            for labels, value in values.items():
                family.add_metric(labels, value)
            if counter and not metric.labels and not values:
                family.add_metric((), 0)
            yield family


def _of(
    metric: Metric, values: Mapping[tuple[str, tuple[str, ...]], V]
) -> dict[tuple[str, ...], V]:
    return {labels: value for (name, labels), value in values.items() if name == metric.name}


def _histogram(metric: Metric, values: Mapping[tuple[str, ...], Histogram]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in values.items():
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=histogram.total)
    return family
