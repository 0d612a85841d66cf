"""What a reader pastes from the documentation works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[[Path], str]
PAGES = {
    "index.md": ["sending a mail to ada@example.org"],
    "guide-enqueue.md": ["1 False", "ready 0 None"],
    "guide-worker.md": ["email.send succeeded"],
    "guide-schedules.md": ["serving reports", "added [datetime", " manual "],
    "guide-testing.md": ["3 passed"],
    "observability.md": ["succeeded"],
    "guide-endpoint.md": ["processed"],
    "guide-operate.md": ["0\n0 of 0"],
    "guide-deploy.md": ["is current, at version"],
}
WORKER = re.compile(r"^pgqueue worker", re.MULTILINE)


def script(blocks: list[Any]) -> str:
    """The Python and shell blocks of a page as one program, in their order, in one namespace.

    A block whose first line is a comment with a file's name is that file.
    """
    parts = ["import os, pathlib, subprocess, sys", "sys.path.insert(0, os.getcwd())"]
    for block in blocks:
        if not block.run:
            continue
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)
            if name:
                parts.append(f"pathlib.Path({name[1]!r}).write_text({block.text!r})")
            else:
                parts.append(block.text)
        elif block.language == "sh":
            # Without --drain a worker never ends.
            commands = WORKER.sub(r"\g<0> --drain", block.text)
            parts.append(f"subprocess.run(['sh', '-euc', {commands!r}], check=True)")
    return "\n".join(parts)


@pytest.fixture
def run(
    pgqueue_dsn: str, pgqueue_server_dsn: str, tmp_path: Path, blocks: Callable[[Path], list[Any]]
) -> Run:
    """Runs a page in an empty folder; gives what it printed."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("pgqueue", "pytest"):
        command = bin_folder / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n')
        command.chmod(0o755)
    folder = tmp_path / "reader"
    folder.mkdir()

    def run(page: Path) -> str:
        file = tmp_path / "page.py"
        file.write_text(script(blocks(page)))
        done = subprocess.run(
            [sys.executable, file],
            cwd=folder,
            env={
                **os.environ,
                "PGQUEUE_DSN": pgqueue_dsn,
                "PGQUEUE_TEST_DSN": pgqueue_server_dsn,
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
                "PYTHONUNBUFFERED": "1",
            },
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


def test_readme_works_as_pasted(run: Run, root: Path) -> None:
    """Every block of the README that is meant to run does, one after another."""
    printed = run(root / "README.md")
    for words in (
        "sending a mail to ada@example.org",
        "ready",
        "welcome ada@example.org",
        "welcome bob@example.org",
        "welcome eve@example.org",
    ):
        assert words in printed


@pytest.mark.parametrize("page", sorted(PAGES))
def test_page_works_as_pasted(run: Run, root: Path, page: str) -> None:
    """Every block of the guides that is meant to run does, one after another."""
    printed = run(root / "docs" / page)
    for words in PAGES[page]:
        assert words in printed


def test_every_page_with_code_is_run(root: Path, blocks: Callable[[Path], list[Any]]) -> None:
    """A new page with Python or shell blocks gets its line above."""
    with_code = {
        page.name
        for page in (root / "docs").glob("*.md")
        if any(block.run and block.language in ("python", "sh") for block in blocks(page))
    }
    assert with_code - {"cli.md"} == set(PAGES)


def test_readme_is_short(root: Path) -> None:
    """It stays a page that people read to the end."""
    assert len((root / "README.md").read_text("utf-8").splitlines()) <= 250
