"""Which systems there are. To add one: a driver, and a line here."""

from __future__ import annotations

import attrs

ALL = frozenset({"enqueue", "single", "latency", "writes", "held"})


@attrs.frozen
class System:
    """One system, or one way of running it."""

    name: str
    driver: str
    """The script in drivers/, .py or .mjs."""
    variant: str = ""
    """Passed to the driver."""
    share: float = 1.0
    """The share of the jobs that it gets: a slow system would take all the time."""
    parts: frozenset[str] = ALL
    """What is measured beside its drain. A variant has the rest from its system."""

    @property
    def family(self) -> str:
        """The name without the variant."""
        return self.name.partition(",")[0]

    @property
    def runtime(self) -> str:
        """Who runs the driver: ours (this environment), python or node (the scratch folder)."""
        if self.driver.endswith(".mjs"):
            return "node"
        return "ours" if self.driver == "pgqueue.py" else "python"


SYSTEMS = (
    System("pgqueue", "pgqueue.py", "keep"),
    System("pgqueue, retention off", "pgqueue.py", "off", parts=frozenset({"writes"})),
    System("pgqueue, sync handlers", "pgqueue.py", "sync", parts=frozenset()),
    System("pgqueue, batch handlers", "pgqueue.py", "batch", parts=frozenset()),
    System("pgqueue, uvloop", "pgqueue.py", "uvloop", parts=frozenset()),
    System("PgQueuer", "pgqueuer.py"),
    System("Procrastinate", "procrastinate.py", share=0.025),
    System("Awa", "awa.py", share=0.25),
    System("graphile-worker", "graphile_worker.mjs"),
    System("pg-boss", "pg_boss.mjs"),
)


def chosen(names: str | None) -> list[System]:
    """Those of the names, which commas separate, with their variants; all by default.

    Raises:
        SystemExit: there is no system of such a name.
    """
    if names is None:
        return list(SYSTEMS)
    wanted = {name.strip().lower() for name in names.split(",")}
    families = dict.fromkeys(system.family for system in SYSTEMS)
    if unknown := wanted - {family.lower() for family in families}:
        raise SystemExit(f"there is no system {min(unknown)!r}; name some of {','.join(families)}")
    return [system for system in SYSTEMS if system.family.lower() in wanted]
