"""Runs examples as a reader would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
Run = Callable[..., str]


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
