"""The signals that end a worker."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def handled(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop` meanwhile, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def call_stop(*_: Any) -> None:  # noqa: ANN401 - number and frame
        stop()

    before = {number: signal.signal(number, call_stop) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set from Python, and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """The signals wait meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_for_child(stop: Callable[[], None]) -> None:
    """In a child that was forked with the signals held back: SIGTERM calls `stop`.

    Not SIGINT: the parent hears Ctrl-C too, and passes it on as SIGTERM. Heard twice, it would
    hurry.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
