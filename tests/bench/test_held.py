"""The rounds of mixed jobs under a held snapshot, small ones, from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.held import mix, report

from pgqueue import NewJob

ROOT = Path(__file__).parents[2]


def test_mix_is_as_it_is_described() -> None:
    """The shares of scheduled, failing, snoozed and keyed jobs, and all priorities."""
    jobs = list(mix.jobs(20_000, seed=1))
    kinds = Counter(job.kind for job in jobs)

    def share(count: int) -> float:
        return count / len(jobs)

    assert share(kinds["flaky"]) == pytest.approx(mix.FAILING, abs=0.01)
    assert share(kinds["sleepy"]) == pytest.approx(mix.SNOOZED, abs=0.01)
    scheduled = [job for job in jobs if job.delay is not None]
    assert share(len(scheduled)) == pytest.approx(mix.SCHEDULED, abs=0.01)
    keyed = [job for job in jobs if job.dedupe_key is not None]
    assert share(len(keyed)) == pytest.approx(mix.KEYED, abs=0.01)
    assert {job.dedupe_until for job in keyed} == {"start", "finish"}
    assert {job.priority for job in jobs} == set(range(10))


def test_the_same_keys_come_back_in_other_rounds() -> None:
    """Within a round each is used once, so that no job is lost to a duplicate."""

    def keys(jobs: list[NewJob]) -> list[str]:
        return [job.dedupe_key for job in jobs if job.dedupe_key is not None]

    first, second = (keys(list(mix.jobs(5_000, seed))) for seed in (1, 2))
    assert len(set(first)) == len(first)
    assert set(first) & set(second)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_small_rounds_give_every_figure(tmp_path: Path) -> None:
    """The run checks by itself that every job succeeded; the files are written."""
    data, plot, table = (tmp_path / name for name in ("held.json", "held.svg", "held.md"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.held", "--scale", "0.01", "--rounds", "2"),
            *("--json", str(data), "--plot", str(plot), "--markdown", str(table)),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    first, last = json.loads(data.read_text())["rounds"]
    assert (first["churned"], last["churned"]) == (400, 800)
    for figure in ("drain", "enqueue", "pick_up"):
        assert last[figure] > 0
    for figure in ("claim", "maintain", "promote", "reap_rescan", "cold_claim", "bottom_claim"):
        assert 0 < last[figure]["p50"] <= last[figure]["p99"] <= last[figure]["longest"]
    assert "<svg" in plot.read_text()
    documented = (ROOT / "docs/benchmarks.md").read_text()
    for measure in report.MEASURES:
        assert f"| {measure.name}, {measure.unit} |" in table.read_text()
        assert f"| {measure.name}, {measure.unit} |" in documented
