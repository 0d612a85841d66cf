"""Finds the handlers that `pgqueue worker` runs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TypeVar

import click

from pgqueue.handlers import Handlers

T = TypeVar("T")

DEFAULT_NAME = "handlers"


def load_handlers(reference: str) -> Handlers:
    """The `Handlers` at MODULE:NAME; NAME is `handlers` if it is left out.

    Modules are looked for in the current folder first, as `python -m` does.

    Raises:
        click.UsageError: the module cannot be imported, or has no `Handlers` of that name.
    """
    return load(reference, Handlers, DEFAULT_NAME)


def load(reference: str, wanted: type[T], default_name: str) -> T:
    """What is at MODULE:NAME, an instance of `wanted`.

    Raises:
        click.UsageError: the module cannot be imported, or has no such thing of that name.
    """
    module_name, _, name = reference.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        guess = module_name.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        raise click.UsageError(
            f"{module_name!r} is a file, not a module; write {guess}:{name or default_name}"
        )
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path has strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise click.UsageError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    for part in (name or default_name).split("."):
        found = getattr(found, part, None)
    if not isinstance(found, wanted):
        what = "Handlers" if wanted is Handlers else wanted.__name__
        are = "they are" if wanted is Handlers else "it is"
        raise click.UsageError(
            f"{module_name!r} has no pgqueue.{what} named {name or default_name!r}; "
            f"say where {are}, as MODULE:NAME"
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
