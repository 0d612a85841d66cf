"""Finds the handlers that `pgqueue worker` runs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from pgqueue.handlers import Handlers

DEFAULT_NAME = "handlers"


def load_handlers(reference: str) -> Handlers:
    """The `Handlers` at MODULE:NAME; NAME is `handlers` if it is left out.

    Modules are looked for in the current folder first, as `python -m` does.

    Raises:
        click.UsageError: the module cannot be imported, or has no `Handlers` of that name.
    """
    module_name, _, name = reference.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        guess = module_name.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        raise click.UsageError(
            f"{module_name!r} is a file, not a module; write {guess}:{name or DEFAULT_NAME}"
        )
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path has strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise click.UsageError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    for part in (name or DEFAULT_NAME).split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Handlers):
        raise click.UsageError(
            f"{module_name!r} has no pgqueue.Handlers named {name or DEFAULT_NAME!r}; "
            "say where they are, as MODULE:NAME"
        )
    return found


def _where(error: BaseException) -> str:
    """The line of the user's module that failed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
        and frame.filename not in (__file__, importlib.__file__)
    ]
    return (
        f" ({frames[-1].filename}, line {frames[-1].lineno}); -vv shows the traceback"
        if frames
        else ""
    )
