"""The demo's handlers: one kind of job, which reads a Python file and counts what it defines."""

from __future__ import annotations

import ast
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

from pgqueue.handlers import Handlers
from pgqueue.models import Job
from pgqueue.retry import Constant

PARENT = "PGQUEUE_DEMO_PARENT"
"""The process without which the demo's workers are not wanted any more."""
QUEUE = "files"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_LOOK_SECONDS = 0.5

handlers = Handlers()


class Source(TypedDict):
    """The payload: which file."""

    path: str


class Longest(TypedDict):
    """A file's longest function."""

    name: str
    lines: int


class Survey(TypedDict):
    """The result: what a file defines."""

    lines: int
    functions: int
    classes: int
    longest: Longest | None


# Three attempts: a job of the killed worker has one left even if its lease runs out once more.
@handlers.register(
    "parse", payload=Source, queue=QUEUE, max_attempts=3, retry=Constant(timedelta(seconds=0.3))
)
def parse(job: Job[Source]) -> Survey:
    """Surveys one file; one with a syntax error fails."""
    path = Path(job.payload["path"])
    return survey(path.read_bytes(), path.name)


def survey(source: bytes, name: str) -> Survey:
    """What the source text of a module defines; `name` stands in errors.

    Raises:
        SyntaxError: it is not Python, or not this version's.
    """
    functions = classes = 0
    longest: Longest | None = None
    for node in _definitions(ast.parse(source, name)):
        if isinstance(node, ast.ClassDef):
            classes += 1
            continue
        functions += 1
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if longest is None or length > longest["lines"]:
            longest = {"name": node.name, "lines": length}
    lines = len(source.splitlines())
    return {"lines": lines, "functions": functions, "classes": classes, "longest": longest}


def _definitions(
    tree: ast.Module,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Definitions at any depth. Only statements hold any, so expressions are not walked."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node
        for name in _BLOCKS:
            waiting.extend(getattr(node, name, ()))


def _end_with(parent: int) -> None:
    """Ends this worker in order once its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if PARENT in os.environ:
    threading.Thread(target=_end_with, args=[int(os.environ[PARENT])], daemon=True).start()
