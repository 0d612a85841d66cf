"""How long an idle worker takes to start a job, at several rates."""

from __future__ import annotations

import statistics

import attrs
from benchmarks.peers.bench import Bench, Void
from benchmarks.peers.figures import Latency, quantile
from benchmarks.peers.plan import Plan
from benchmarks.peers.systems import System

WARM_UP = (20.0, 0.5)
"""Rate and seconds of the jobs before those that count."""


@attrs.define
class Samples:
    """The rounds of one system at one rate."""

    sent: list[float] = attrs.Factory(list)
    latencies: list[list[float]] = attrs.Factory(list)
    """Milliseconds, sorted, of each round."""

    def summary(self, system: System, rate: float) -> Latency:
        """Their medians, and the distribution of all."""
        together = sorted(value for one in self.latencies for value in one)
        return Latency(
            system.name,
            rate,
            statistics.median(self.sent),
            statistics.median(quantile(one, 0.50) for one in self.latencies),
            statistics.median(quantile(one, 0.99) for one in self.latencies),
            [round(quantile(together, share / 200), 3) for share in range(1, 200)],
        )


def sample(bench: Bench, plan: Plan, system: System, rate: float, into: Samples) -> None:
    """One round: a worker process, and another process that enqueues.

    Raises:
        Void: not every job was run.
    """
    dsn = bench.fresh(system)
    with bench.drivers.started(system, dsn, "serve") as worker:
        worker.answer()
        warm = bench.drivers.ask(system, dsn, "send", *WARM_UP)
        sent = bench.drivers.ask(system, dsn, "send", rate, plan.seconds(plan.latency_seconds))
        bench.wait_until_empty(system, dsn)
        worker.go_on()
        latencies = worker.answer()["latencies"]
    if len(latencies) != warm["sent"] + sent["sent"]:
        raise Void(f"{system.name} ran {len(latencies)} jobs of {warm['sent'] + sent['sent']}")
    into.sent.append(sent["sent"] / sent["seconds"])
    into.latencies.append(sorted(1000 * value for value in latencies[warm["sent"] :]))
