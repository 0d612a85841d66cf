"""What the tests of metrics share."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the sample's name and its labels."""


def scrape(port: int, accept: str = "") -> str:
    """What is served."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        text: str = answer.read().decode()
        return text


def samples(text: str) -> Samples:
    """The samples of an exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample's value; the sum of those that have at least these labels."""
    wanted = set(labels.items())
    return sum(v for (n, given), v in found.items() if n == name and wanted <= set(given))


def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Waits until `condition` holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
