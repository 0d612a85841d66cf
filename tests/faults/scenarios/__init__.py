"""All scenarios, in the order in which they are shown."""

from __future__ import annotations

from tests.faults.harness.run import Scenario
from tests.faults.scenarios import (
    cancellations,
    cut_commits,
    failover,
    forks,
    fuzz,
    hostile,
    inputs,
    kills,
    lives,
    loops,
    misrouted,
    network,
    orphans,
    oversize,
    poison,
    races,
    restarts,
    schedulers,
    shutdown,
    terminations,
    upgrades,
    zombies,
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("kills", "SIGKILL of workers under load", kills.run, (2,)),
    Scenario("orphans", "claims of the dead behind valid ones", orphans.run, (4, 5)),
    Scenario("zombies", "late ends, by stopped workers and stale clients", zombies.run, (1,)),
    Scenario("poison", "jobs that kill, fill or wedge their worker", poison.run, (9,)),
    Scenario("restarts", "immediate restarts of Postgres under load", restarts.run, (27,)),
    Scenario("terminations", "sessions ended under load", terminations.run, (28, 30)),
    Scenario("network", "silent, late and broken connections", network.run, (29,)),
    Scenario("cut_commits", "answers lost after the commit", cut_commits.run, (34,)),
    Scenario("loops", "handlers that block loop, GIL and pool", loops.run, (6, 8)),
    Scenario("forks", "forks of a process that is connected", forks.run, (37,)),
    Scenario("cancellations", "tasks cancelled amid operations", cancellations.run, (30,)),
    Scenario(
        "failover", "Promotions of a synchronous standby under load", failover.synchronous, (32, 33)
    ),
    Scenario("lagging", "Promotions of a standby that lags", failover.asynchronous, (32, 33)),
    Scenario("misrouted", "Connections that lead to a standby", misrouted.run, (32,)),
    Scenario("hostile", "settings, roles and clocks against it", hostile.run, (20, 25, 35, 38, 39)),
    Scenario("upgrades", "upgrades under load, with older workers", upgrades.run, (24,)),
    Scenario("shutdown", "SIGTERM at any moment of a worker's life", shutdown.run, (11,)),
    Scenario("endings", "Bulk endings of the same claims in other orders", races.endings, (15,)),
    Scenario("batches", "Batches that replace, in other orders", races.batches, (15,)),
    Scenario("deadlocks", "All bulk calls at once on the same jobs", races.all_at_once, (15,)),
    Scenario("producers", "50 producers of one key, half roll back", races.producers, (22,)),
    Scenario("wedged", "Duplicates of jobs that run or back off", races.wedged, (10,)),
    Scenario("inputs", "Curated inputs, wherever they can be passed", inputs.run, (23, 44)),
    Scenario("fuzz", "Inputs that hypothesis makes up", fuzz.run, (44,)),
    Scenario("oversize", "100 MB where a few kilobytes belong", oversize.run, (45,)),
    Scenario("schedulers", "Schedulers killed on the slot", schedulers.run, (40,)),
    Scenario("lives", "Random lives of jobs beside a model of them", lives.run, (14,)),
)
