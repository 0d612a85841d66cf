"""Loads a system's app, and runs `pgqueue` beside it, both on a database of a test's own."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType

import attrs
import pytest
from click.testing import CliRunner

from pgqueue.cli.app import app

SECRET = "correct-horse-battery-staple"
"""Of endpoints that live for a test."""


@attrs.frozen
class Shell:
    """A shell of whoever operates the system, with the variables of its deployment."""

    env: dict[str, str]

    def __call__(
        self, *args: str, code: int | tuple[int, ...] = 0, stdin: str | None = None
    ) -> str:
        """Runs `pgqueue` with arguments, in this process; gives all that it printed."""
        logger = logging.getLogger("pgqueue")
        level, handlers = logger.level, logger.handlers
        logger.handlers = []
        try:
            done = CliRunner().invoke(app, args, input=stdin, env=self.env)
        finally:
            logger.level, logger.handlers = level, handlers
        codes = (code,) if isinstance(code, int) else code
        assert done.exit_code in codes, done.output
        return done.output


def deploy(name: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> ModuleType:
    """The app of a system, as a new process has it that was started with these variables."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    return importlib.reload(importlib.import_module(f"examples.{name}.app"))
