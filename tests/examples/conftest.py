"""Runs examples as a reader would."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
Run = Callable[..., str]


class LoadApp(Protocol):
    """Imports the app of a system anew."""

    def __call__(self, system: str, dsn: str, **environment: str) -> ModuleType:
        """`examples.SYSTEM.app`, with its queue in the database `dsn`, and that environment."""


@pytest.fixture
def run(pgqueue_dsn: str) -> Run:
    """Run Python with some arguments on the test's database; gives what it printed."""

    def run(*args: str | Path, cwd: Path = EXAMPLES) -> str:
        environment = {**os.environ, "PGQUEUE_DSN": pgqueue_dsn}
        done = subprocess.run(
            [sys.executable, *args],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=25,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    return run


@pytest.fixture
def load_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadApp]:
    """See `LoadApp`; its `endpoint` and `client` are closed afterwards."""
    loaded: list[ModuleType] = []

    def load(system: str, dsn: str, **environment: str) -> ModuleType:
        for name, value in {"PGQUEUE_DSN": dsn, **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delitem(sys.modules, f"examples.{system}.app", raising=False)
        app = importlib.import_module(f"examples.{system}.app")
        loaded.append(app)
        return app

    yield load
    for app in loaded:
        app.endpoint.close()
        app.client.close()
