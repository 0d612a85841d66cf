"""All metrics: names, labels and what they mean. The dashboard and the rules are checked by it."""

from __future__ import annotations

from typing import Literal

import attrs

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
             1800.0)  # fmt: skip
"""Seconds: from a cached look-up to a report."""
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
         7200.0)  # fmt: skip
ROUND_TRIPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@attrs.frozen
class Metric:
    """One of them."""

    name: str
    """Of a counter without `_total`, which the exposition adds."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


ATTEMPTS = Metric(
    "pgqueue_attempts", "counter", "Attempts that ended, by outcome; lost leases among them",
    ("queue", "kind", "outcome"),
)  # fmt: skip
DURATION = Metric(
    "pgqueue_attempt_duration_seconds", "histogram", "Seconds in the handler",
    ("queue", "kind"), DURATIONS,
)  # fmt: skip
WAIT = Metric(
    "pgqueue_job_wait_seconds", "histogram",
    "Seconds from when a job was due to its claim, right before its start",
    ("queue",), WAITS,
)  # fmt: skip
CLAIMS = Metric("pgqueue_claims", "counter", "Claims, by whether they found jobs", ("result",))
CLAIM_JOBS = Metric(
    "pgqueue_claim_jobs", "histogram", "Jobs in a claim that found any", (), SIZES
)  # fmt: skip
CLAIM_DURATION = Metric(
    "pgqueue_claim_duration_seconds", "histogram", "Seconds until a claim was answered",
    (), ROUND_TRIPS,
)  # fmt: skip
RECONNECTS = Metric(
    "pgqueue_reconnects", "counter", "Connections made anew, by what they are for", ("purpose",)
)
CONNECTION_FAILURES = Metric(
    "pgqueue_connection_failures", "counter",
    "Connections that broke or could not be made, by what they are for", ("purpose",),
)  # fmt: skip
BEATS_MISSED = Metric(
    "pgqueue_heartbeats_missed", "counter", "Times that leases could not be renewed in time"
)
RUNNING = Metric(
    "pgqueue_handlers_running", "gauge", "Handlers that run, sync and async ones", ("pool",)
)
LIMIT = Metric(
    "pgqueue_handlers_limit", "gauge", "Handlers that may run at once: the concurrency", ("pool",)
)
PREFETCHED = Metric(
    "pgqueue_jobs_prefetched", "gauge", "Jobs that are claimed and wait for their turn", ("pool",)
)
HELD = Metric("pgqueue_jobs_held", "gauge", "Jobs that are claimed and not yet ended")
UNREPORTED = Metric(
    "pgqueue_endings_unreported", "gauge", "Endings that the database does not know of yet"
)
PROCESSES = Metric("pgqueue_worker_processes", "gauge", "Processes of this worker")

WORKER = (
    ATTEMPTS, DURATION, WAIT, CLAIMS, CLAIM_JOBS, CLAIM_DURATION, RECONNECTS, CONNECTION_FAILURES,
    BEATS_MISSED, RUNNING, LIMIT, PREFETCHED, HELD, UNREPORTED, PROCESSES,
)  # fmt: skip

JOBS = Metric(
    "pgqueue_jobs", "gauge", "Jobs: ready, scheduled, claimed and dead ones", ("queue", "state")
)
PAUSED = Metric("pgqueue_queue_paused", "gauge", "1 while the queue is paused", ("queue",))
OLDEST = Metric(
    "pgqueue_oldest_ready_job_seconds", "gauge",
    "Seconds for which the oldest ready job has been due; absent for paused and empty queues",
    ("queue",),
)  # fmt: skip
QUEUE_WORKERS = Metric(
    "pgqueue_queue_workers", "gauge", "Worker processes seen that serve the queue", ("queue",)
)
WORKERS = Metric("pgqueue_workers", "gauge", "Worker processes seen")
UPKEEP_LAG = Metric(
    "pgqueue_upkeep_lag_seconds", "gauge",
    "Seconds for which the first scheduled job has been due and not made ready",
)  # fmt: skip
SCHEDULE_LAG = Metric(
    "pgqueue_schedule_lag_seconds", "gauge",
    "Seconds for which the first slot of a schedule has been due and not fired",
)  # fmt: skip
HORIZON = Metric(
    "pgqueue_horizon_age_seconds", "gauge",
    "Age of the oldest snapshot, which keeps dead rows from being removed",
)  # fmt: skip
HORIZON_XIDS = Metric("pgqueue_horizon_age_transactions", "gauge", "The same in transactions")
DEAD_ROWS = Metric("pgqueue_dead_rows", "gauge", "Dead rows that are not removed yet", ("table",))
LIVE_ROWS = Metric("pgqueue_live_rows", "gauge", "Live rows, as the statistics have it", ("table",))
SAMPLE_SUCCESS = Metric(
    "pgqueue_sample_success", "gauge", "1 if the last look at the database got its answer in time",
    ("part",),
)  # fmt: skip
SAMPLE_DURATION = Metric(
    "pgqueue_sample_duration_seconds", "gauge", "Seconds that the last look took", ("part",)
)
SAMPLE_AGE = Metric(
    "pgqueue_sample_age_seconds", "gauge", "Seconds since the last look", ("part",)
)  # fmt: skip

DATABASE = (
    JOBS, PAUSED, OLDEST, QUEUE_WORKERS, WORKERS, UPKEEP_LAG, SCHEDULE_LAG, HORIZON, HORIZON_XIDS,
    DEAD_ROWS, LIVE_ROWS, SAMPLE_SUCCESS, SAMPLE_DURATION, SAMPLE_AGE,
)  # fmt: skip
