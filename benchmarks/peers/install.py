"""Brings the peers, each in its latest version, from their registries into a scratch folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

PYTHON_PACKAGES = (
    *("awa-pg", "pgqueuer[asyncpg]", "uvloop"),
    *("procrastinate", "psycopg[binary,pool]"),
)
NODE_VERSION = "22"
NODE_PACKAGES = ("graphile-worker@latest", "pg-boss@latest", "pg@latest")
DRIVERS = Path(__file__).parent / "drivers"
TIMEOUT = 600.0
"""Seconds for one call of pip or npm."""


@attrs.frozen
class Runtimes:
    """How to start a driver of each runtime."""

    scratch: Path

    def command(self, driver: str, runtime: str) -> list[str]:
        """The start of the command line."""
        if runtime == "node":
            return [str(_node(self.scratch)), driver]
        python = sys.executable if runtime == "ours" else str(_python(self.scratch))
        return [python, "-m", f"benchmarks.peers.drivers.{Path(driver).stem}"]

    def folder(self, runtime: str) -> Path:
        """Where to start it: a script in JavaScript finds packages beside itself only."""
        return self.scratch / "node" if runtime == "node" else DRIVERS.parents[2]


def install(scratch: Path, runtimes: Collection[str]) -> Runtimes:
    """Installs or updates what `runtimes` (python, node) need.

    Raises:
        SystemExit: pip or npm failed; its own output says why.
    """
    if "python" in runtimes:
        _install_python(scratch)
    if "node" in runtimes:
        _install_node(scratch)
    return Runtimes(scratch)


def _install_python(scratch: Path) -> None:
    if not _python(scratch).exists():
        _run([sys.executable, "-m", "venv", "--clear", str(scratch / "python")])
    pip = [str(_python(scratch)), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--upgrade", *PYTHON_PACKAGES])


def _install_node(scratch: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is missing; install it, or leave the peers in Node out: --systems")
    folder = scratch / "node"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n', "utf-8")
    add = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
    # First Node itself: the peers' latest versions install only with one that they support.
    _run([*add, f"node@{NODE_VERSION}"], cwd=folder)
    path = f"{_node(scratch).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    packages = [f"node@{NODE_VERSION}", *NODE_PACKAGES]
    _run([*add, *packages], cwd=folder, env={**os.environ, "PATH": path})
    for script in DRIVERS.glob("*.mjs"):
        shutil.copy(script, folder)


def _python(scratch: Path) -> Path:
    return scratch / "python" / "bin" / "python"


def _node(scratch: Path) -> Path:
    return scratch / "node" / "node_modules" / "node" / "bin" / "node"


def _run(
    command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
