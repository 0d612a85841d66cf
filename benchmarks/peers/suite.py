"""Takes all measures, the systems in turn within each round."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

import attrs
from benchmarks.peers import floors, held, latency, writes
from benchmarks.peers.bench import Bench, Void
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.figures import Report
from benchmarks.peers.plan import Plan
from benchmarks.peers.process import DriverFailed, Drivers
from benchmarks.peers.systems import System

ENQUEUE = "bulk enqueue"
SINGLE = "enqueue one by one"
PROCESSES = (1, 2)

Progress = Callable[[str, int, int], None]
"""Told of each step as it begins: its name, how many are done, how many there are."""
Step = tuple[str, Callable[[], None]]


def drain_measure(processes: int, *, analyzed: bool) -> str:
    """The name of the measure."""
    who = "1 process" if processes == 1 else f"{processes} processes"
    return f"drain, {who}{', after ANALYZE' if analyzed else ''}"


def run(
    cluster: Cluster, drivers: Drivers, systems: Sequence[System], plan: Plan, progress: Progress
) -> Report:
    """All measures of `systems`. Steps that fail are listed in the report."""
    report = Report(
        started=datetime.now(timezone.utc),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        versions={
            "postgres": str(cluster.scalar("show server_version")),
            "python": platform.python_version(),
        },
        settings=cluster.settings(),
        plan=attrs.asdict(plan),
        systems={},
    )
    steps = list(Suite(Bench(cluster, drivers), systems, plan, report).steps())
    for number, (name, step) in enumerate(steps):
        progress(name, number, len(steps))
        try:
            step()
        except (DriverFailed, Void) as error:
            # The other systems' figures, and this one's of other rounds, are worth having.
            report.failures.append(f"{name}: {error}")
    return report


@attrs.frozen
class Suite:
    """The steps of a run, each of which adds its figures to the report."""

    bench: Bench
    systems: Sequence[System]
    plan: Plan
    report: Report
    _samples: dict[tuple[str, float], latency.Samples] = attrs.Factory(dict)

    def steps(self) -> Iterator[Step]:
        """Each step's name, and what takes it."""
        for system in self.systems:
            yield f"{system.name}: set up", self._bind(self._prepare, system)
        for number in range(1, self.plan.rounds + 1):
            for name, step in self._round():
                yield f"round {number}, {name}", step
        yield "latency: sum up", self._sum_latencies
        for system in self._with("writes"):
            yield f"{system.name}: writes", self._bind(self._writes, system)
        for system in self._with("held"):
            yield f"{system.name}: held snapshot", self._bind(self._held, system)

    def _round(self) -> Iterator[Step]:
        yield "floors", self._floors
        for processes in PROCESSES:
            for analyzed in (False, True):
                for system in self.systems:
                    name = f"{system.name}: {drain_measure(processes, analyzed=analyzed)}"
                    yield name, self._drain(system, processes, analyzed=analyzed)
        for system in self._with("single"):
            yield f"{system.name}: {SINGLE}", self._bind(self._single, system)
        for rate in self.plan.rates:
            for system in self._with("latency"):
                yield f"{system.name}: latency at {rate:,.0f}/s", self._latency(system, rate)

    def _with(self, part: str) -> list[System]:
        return [system for system in self.systems if part in system.parts]

    def _bind(self, take: Callable[[System], None], system: System) -> Callable[[], None]:
        return lambda: take(system)

    def _prepare(self, system: System) -> None:
        self.bench.prepare(system)
        info = self.bench.infos[system.name]
        self.report.systems[system.name] = {
            "versions": info["versions"],
            "settings": info["settings"],
        }

    def _floors(self) -> None:
        count = self.plan.jobs(self.plan.drain_jobs)
        self.report.add(floors.COPY, ENQUEUE, floors.copy(self.bench, count))
        measure = drain_measure(1, analyzed=True)
        self.report.add(floors.LOOP, measure, floors.loop(self.bench, count))

    def _drain(self, system: System, processes: int, *, analyzed: bool) -> Callable[[], None]:
        def take() -> None:
            count = self.plan.jobs(self.plan.drain_jobs, system)
            dsn = self.bench.fresh(system)
            enqueued = self.bench.enqueue(system, dsn, count)
            if analyzed:
                self.bench.analyze(dsn)
            drained = self.bench.drain(system, dsn, count, processes)
            if "enqueue" in system.parts:
                self.report.add(system.name, ENQUEUE, enqueued)
            self.report.add(system.name, drain_measure(processes, analyzed=analyzed), drained)

        return take

    def _single(self, system: System) -> None:
        count = self.plan.jobs(self.plan.single_jobs)
        dsn = self.bench.fresh(system)
        seconds = self.bench.drivers.ask(system, dsn, "single", count)["seconds"]
        self.report.add(system.name, SINGLE, count / seconds)

    def _latency(self, system: System, rate: float) -> Callable[[], None]:
        samples = self._samples.setdefault((system.name, rate), latency.Samples())
        return lambda: latency.sample(self.bench, self.plan, system, rate, samples)

    def _sum_latencies(self) -> None:
        systems = {system.name: system for system in self.systems}
        for (name, rate), samples in self._samples.items():
            if samples.sent:
                self.report.latencies.append(samples.summary(systems[name], rate))

    def _writes(self, system: System) -> None:
        self.report.writes.append(writes.measure(self.bench, self.plan, system))

    def _held(self, system: System) -> None:
        self.report.held[system.name] = list(held.rounds(self.bench, self.plan, system))
