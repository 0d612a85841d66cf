"""The comparison runs from end to end; here with pgqueue alone: the rest needs a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tiny_round_of_pgqueue_alone_gives_every_figure(tmp_path: Path) -> None:
    """The runner, pgqueue's driver, the tables, the JSON and the pictures work together."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.peers", "--systems", "pgqueue", "--no-install"),
            *("--scale", "0.001", "--rounds", "1", "--width", "180", "--out", str(tmp_path)),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "peers.json").read_text())
    assert found["failures"] == []
    rates = {(entry["system"], entry["measure"]): entry["median"] for entry in found["rates"]}
    for measure in ("bulk enqueue", "enqueue one by one", "drain, 2 processes, after ANALYZE"):
        assert rates["pgqueue", measure] > 0
    for variant in ("retention off", "sync handlers", "batch handlers", "uvloop"):
        assert rates[f"pgqueue, {variant}", "drain, 1 process"] > 0
    assert {entry["system"] for entry in found["rates"]} > {"floor: raw COPY"}
    assert [entry["rate"] for entry in found["latencies"]] == [50, 1000]
    assert found["held"]["pgqueue"][-1]["churned"] >= 100
    kept, off = found["writes"]
    assert (kept["inserted"], kept["updated"], kept["deleted"]) == pytest.approx((2, 1, 1), abs=0.2)
    assert off["wal_bytes"] < kept["wal_bytes"]
    for name in ("drain", "held", "latency"):
        assert "<svg" in (tmp_path / f"peers-{name}.svg").read_text()


def test_an_unknown_system_is_named_with_those_that_there_are() -> None:
    """A wrong name ends the run before anything is installed or started."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--systems", "pg-boss,nobody"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "no system 'nobody'" in done.stderr
    assert "graphile-worker" in done.stderr


def test_cost_by_depth_is_drawn(tmp_path: Path) -> None:
    """The picture names each line that it was given."""
    code = (
        "from pathlib import Path; from benchmarks.peers.plots import cost_by_depth;"
        f"cost_by_depth({{'pgqueue': [(1000, 40.0), (100000, 41.0)]}}, Path({str(tmp_path)!r}) / "
        "'depth.svg', 'a machine')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

    assert "pgqueue" in (tmp_path / "depth.svg").read_text()
