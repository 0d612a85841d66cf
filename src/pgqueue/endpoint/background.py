"""An event loop in a thread, for pokes of callers who have none."""

from __future__ import annotations

import asyncio
import contextlib
import threading

LINGER_SECONDS = 1.0
"""For tasks that handlers left behind; they are cancelled."""


class Background:
    """The thread starts at once, and is a daemon: the end of the program does not wait for it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pgqueue-endpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop and the thread, from any thread; does not wait for it."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, seconds: float) -> None:
        """Waits for the thread's end."""
        self._thread.join(seconds)

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=LINGER_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
