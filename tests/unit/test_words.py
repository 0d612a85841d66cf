"""How figures are said."""

from __future__ import annotations

import pytest

from pgqueue.words import quantity, size


@pytest.mark.parametrize(
    "count,text",
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 kB"),
        (1536, "1.5 kB"),
        (15_000, "15 kB"),
        (2**30, "1 GB"),
        (5 * 2**50, "5120 TB"),
    ],
)
def test_size_has_one_unit(count: int, text: str) -> None:
    """With a digit after the point where it matters."""
    assert size(count) == text


def test_quantity_has_its_plural() -> None:
    """And thousands are told apart."""
    assert quantity(1, "job") == "1 job"
    assert quantity(12_000, "job") == "12,000 jobs"
    assert quantity(2, "query", "queries") == "2 queries"
