"""The benchmark measures what it says, and says what it measured."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import psycopg
import pytest
from rich.console import Console

from pgqueue.bench.command import bench
from pgqueue.bench.suite import SCHEMA, Plan

if TYPE_CHECKING:
    from pathlib import Path

    from pgqueue.bench.suite import Report


@pytest.mark.timeout(120)
def test_a_run_reports_every_measure_beside_its_floor(pgqueue_dsn: str, tmp_path: Path) -> None:
    """A small run fills the table, the JSON and the picture, and leaves no schema behind."""
    console = Console(file=StringIO(), width=100)
    report: Report = bench(
        pgqueue_dsn,
        Plan(scale=0.001, rounds=1, clients=1),
        json_path=tmp_path / "bench.json",
        plot_path=tmp_path / "bench.svg",
        console=console,
    )

    names = [measure.name for measure in report.measures]
    assert names[:2] == ["enqueue one by one", "enqueue in bulk"]
    assert names[-3:] == [f"pick-up latency p{share}" for share in (50, 95, 99)]
    assert all(measure.value > 0 and measure.floor > 0 for measure in report.measures)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [entry["name"] for entry in written["measures"]] == names
    assert written["versions"]["postgres"] == report.versions["postgres"]
    assert "<svg" in (tmp_path / "bench.svg").read_text()
    assert "worker drain, 2 processes" in console.file.getvalue()  # type: ignore[attr-defined]
    with psycopg.connect(pgqueue_dsn) as conn:
        assert conn.execute("select to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,)
