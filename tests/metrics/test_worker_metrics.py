"""What a worker counts."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pgqueue import Client, ConfigurationError, Handlers, Job, NewJob, Outcome, Skip, Worker
from pgqueue.metrics import WorkerMetrics, catalog
from pgqueue.metrics.tallies import Histogram, Labels

from .helpers import Samples, samples, value


def exposed(metrics: WorkerMetrics) -> Samples:
    """What a registry with it alone shows."""
    registry = CollectorRegistry()
    registry.register(metrics)
    return samples(generate_latest(registry).decode())


def drained(client: Client, handlers: Handlers, **options: Any) -> WorkerMetrics:
    """The metrics of a worker that has worked until it was idle."""
    metrics = WorkerMetrics(**options)
    Worker(client, handlers, observers=[metrics]).run(until_idle=True)
    return metrics


def test_attempts_are_counted_by_queue_kind_and_outcome(client: Client, handlers: Handlers) -> None:
    """Each once; what took how long, and waited how long, in histograms."""

    @handlers.register("a")
    async def good(job: Job[Any]) -> object:
        if job.payload == "bad":
            raise ValueError
        return Skip() if job.payload == "skip" else None

    handlers.register("b", queue="other")(lambda _: None)
    client.enqueue_many([("a", None)] * 300)
    client.enqueue_many([("a", "skip")] * 3)
    client.enqueue_many([NewJob("a", "bad", max_attempts=1)] * 2)
    client.enqueue_many([("b", None)] * 7, queue="other")
    found = exposed(drained(client, handlers))
    attempts = "pgqueue_attempts_total"
    assert value(found, attempts, queue="default", kind="a", outcome="succeeded") == 300
    assert value(found, attempts, queue="default", kind="a", outcome="skipped") == 3
    assert value(found, attempts, queue="default", kind="a", outcome="dead") == 2
    assert value(found, attempts, queue="other", kind="b", outcome="succeeded") == 7
    assert value(found, attempts) == 312
    assert value(found, "pgqueue_attempt_duration_seconds_count", kind="a") == 305
    assert value(found, "pgqueue_attempt_duration_seconds_count", kind="b") == 7
    assert value(found, "pgqueue_claim_jobs_sum") == 312
    assert value(found, "pgqueue_job_wait_seconds_count") == 312
    assert value(found, "pgqueue_job_wait_seconds_sum") > 0
    claims = value(found, "pgqueue_claims_total", result="jobs")
    assert claims == value(found, "pgqueue_claim_jobs_count") >= 1
    assert value(found, "pgqueue_claims_total", result="empty") >= 1
    assert value(found, "pgqueue_claim_duration_seconds_count") == value(
        found, "pgqueue_claims_total"
    )


def test_how_busy_a_worker_is_can_be_seen_while_it_works(
    client: Client, handlers: Handlers
) -> None:
    """From within a handler: one runs, of four."""
    metrics = WorkerMetrics()
    seen: list[Samples] = []
    handlers.register("a")(lambda _: seen.append(exposed(metrics)))
    client.enqueue("a")
    Worker(client, handlers, observers=[metrics], concurrency=4).run(until_idle=True)
    (found,) = seen
    assert value(found, "pgqueue_handlers_running", pool="sync") == 1
    assert value(found, "pgqueue_handlers_limit", pool="sync") == 4
    assert value(found, "pgqueue_jobs_held") == 1
    assert value(found, "pgqueue_worker_processes") == 1
    assert value(exposed(metrics), "pgqueue_worker_processes") == 0


def test_labels_stay_few(client: Client, handlers: Handlers) -> None:
    """From the limit on, new kinds and queues are called other; nothing is lost of the sums."""
    kinds = [f"kind-{n}" for n in range(6)]
    for kind in kinds:
        handlers.register(kind, queue=kind)(lambda _: None)
    client.enqueue_many(NewJob(kind, queue=kind) for kind in kinds * 2)
    found = exposed(drained(client, handlers, most_labels=2))
    shown = {dict(labels)["kind"] for name, labels in found if name == "pgqueue_attempts_total"}
    assert len(shown) == 3
    assert "other" in shown
    assert value(found, "pgqueue_attempts_total") == 12
    waits = {
        dict(labels)["queue"] for name, labels in found if name == "pgqueue_job_wait_seconds_sum"
    }
    assert len(waits) == 3


def test_waits_of_large_claims_are_sampled_and_add_up() -> None:
    """As many as there are jobs, whatever the size of the claim."""
    metrics = WorkerMetrics()
    for size in (1, 31, 32, 33, 100, 1000):
        jobs = [
            SimpleNamespace(queue="q", run_at=timedelta(0), claimed_at=timedelta(seconds=2))
        ] * size
        metrics.claimed(jobs, 0.001)  # type: ignore[arg-type]
    found = exposed(metrics)
    assert value(found, "pgqueue_job_wait_seconds_count") == 1197
    assert value(found, "pgqueue_job_wait_seconds_sum") == 2 * 1197
    assert value(found, "pgqueue_job_wait_seconds_bucket", le="2.5") == 1197
    assert value(found, "pgqueue_job_wait_seconds_bucket", le="1.0") == 0


def test_histogram_in_batches_is_the_same_as_one_by_one() -> None:
    """Bounds belong to the bucket below them, as Prometheus has it."""
    bounds = (1.0, 2.0, 5.0)
    values = [0.5, 1.0, 1.1, 2.0, 5.0, 5.1, 100.0]
    one, all_at_once, small = Histogram(bounds), Histogram(bounds), Histogram(bounds)
    for number in values:
        one.add(number)
    all_at_once.add_all(values)
    small.add_all([0.1, 1.0])
    assert one.counts == all_at_once.counts == [2, 2, 1, 2]
    assert one.total == pytest.approx(all_at_once.total)
    assert small.counts == [2, 0, 0, 0]


def test_trouble_is_counted_by_what_it_is_for() -> None:
    """Connections that fail, that are made anew, and beats that were missed."""
    metrics = WorkerMetrics()
    metrics.connection_failed("claiming")
    metrics.connection_failed("claiming")
    metrics.reconnected("heartbeat")
    metrics.beat_missed()
    metrics.ended(Outcome.LOST, [])
    found = exposed(metrics)
    assert value(found, "pgqueue_connection_failures_total", purpose="claiming") == 2
    assert value(found, "pgqueue_reconnects_total", purpose="heartbeat") == 1
    assert value(found, "pgqueue_heartbeats_missed_total") == 1


def test_connection_that_is_cut_is_counted(client: Client, handlers: Handlers) -> None:
    """By the worker itself, when the server ends its sessions."""
    import psycopg  # noqa: PLC0415

    metrics = WorkerMetrics()
    cut: list[bool] = []

    @handlers.register("a")
    def handler(_: Job[Any]) -> None:
        with psycopg.connect(client.dsn, autocommit=True) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        cut.append(True)

    client.enqueue("a")
    Worker(client, handlers, observers=[metrics]).run(until_idle=True)
    found = exposed(metrics)
    assert cut
    assert value(found, "pgqueue_connection_failures_total") >= 1
    assert value(found, "pgqueue_reconnects_total") >= 1


def test_names_follow_the_conventions() -> None:
    """Seconds are called so, counters are no gauges, bounds rise, each metric has a help."""
    metrics = [*catalog.WORKER, *catalog.DATABASE]
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.name.startswith("pgqueue_")
        assert not metric.name.endswith(("_total", "_count", "_sum"))
        assert metric.help
        assert all(a < b for a, b in pairwise(metric.bounds))
        assert bool(metric.bounds) == (metric.kind == "histogram")
        assert ("Seconds" in metric.help or "Age" in metric.help) <= metric.name.endswith(
            "_seconds"
        )


def test_label_cap_is_checked() -> None:
    """A whole number above zero."""
    with pytest.raises(ConfigurationError, match="most_labels"):
        WorkerMetrics(most_labels=0)
    label = Labels(1)
    assert [label("a"), label("b"), label("a")] == ["a", "other", "a"]
