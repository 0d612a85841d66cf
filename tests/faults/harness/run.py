"""What a scenario gets, and how one is run."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from pgqueue import Client, embedded
from pgqueue.testing.databases import Databases

from .report import Report, Result

Tell = Callable[[int, int], None]


@attrs.define
class Run:
    """One run of one scenario."""

    full: bool
    """The full profile, of the soak; otherwise the fast one, of the tests."""
    seed: int
    rng: random.Random
    """Seeded by the seed and the scenario's name: what it decides can be decided again."""
    folder: Path
    """For ledgers, logs and sockets; its path is short."""
    _databases: Databases
    _template: str
    _tell: Tell

    def count(self, fast: int, full: int) -> int:
        """The one that the profile asks for."""
        return full if self.full else fast

    def dsn(self) -> str:
        """A fresh, migrated database on the shared server."""
        return self._databases.create(self._template)

    @contextmanager
    def server(self, settings: Mapping[str, str] | None = None) -> Iterator[embedded.Server]:
        """A server of its own with pgqueue installed, gone at the end of the block."""
        with embedded.temporary(settings=settings) as server:
            with Client(server.dsn) as client:
                client.migrate()
            yield server

    def tell(self, done: int, total: int) -> None:
        """How far it is, for those who watch."""
        self._tell(done, total)


@attrs.frozen
class Scenario:
    """A way in which things go wrong."""

    name: str
    title: str
    run: Callable[[Run], Report]
    modes: Sequence[int] = ()
    """The numbers of the failure modes that it shows."""


@attrs.frozen
class Stage:
    """Where scenarios are played: a server, and the profile."""

    databases: Databases
    template: str
    full: bool
    seed: int

    def play(self, scenario: Scenario, tell: Tell = lambda _done, _total: None) -> Report:
        """Runs one scenario."""
        with tempfile.TemporaryDirectory(prefix="pgq-") as folder:
            run = Run(
                full=self.full,
                seed=self.seed,
                rng=random.Random(f"{self.seed} {scenario.name}"),  # noqa: S311 - replayable
                folder=Path(folder),
                databases=self.databases,
                template=self.template,
                tell=tell,
            )
            return scenario.run(run)

    def result(self, scenario: Scenario, tell: Tell) -> Result:
        """Runs one scenario and takes the time; an exception is a result, too."""
        began = time.monotonic()
        error = None
        try:
            report = self.play(scenario, tell)
        except Exception:  # noqa: BLE001 - the other scenarios are to be run all the same
            report, error = Report(), traceback.format_exc()
        seconds = time.monotonic() - began
        return Result(scenario.name, scenario.title, scenario.modes, report, seconds, error)
