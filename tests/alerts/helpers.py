"""A server of webhooks that misbehaves as it is told, and what else the tests share."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pgqueue.alerts import Alarm, Notice, Rule, Seen


class Hook:
    """An HTTP server on this machine; `behave` says how it answers, one word for each request."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        """The bodies that were answered well."""
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.behave: list[str] = []
        self._lock = threading.Lock()
        self.ended = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with hook._lock:
                    hook.requests += 1
                    hook.headers.append(dict(self.headers))
                    how = hook.behave.pop(0) if hook.behave else "well"
                hook.answer(self, how, body)

            def log_message(self, *_: Any) -> None:
                """Not in the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/s3cret-token"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, how: str, body: dict[str, Any]) -> None:
        """Answers as it is told: with a status, or in a way of its own."""
        if how.isdigit():
            handler.send_response(int(how))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if how in ("well", "endless"):
            self.taken.append(body)
        getattr(self, how)(handler)

    @staticmethod
    def well(handler: BaseHTTPRequestHandler) -> None:
        """As it should."""
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        """Not at all."""
        self.ended.wait(30)

    @staticmethod
    def shut(handler: BaseHTTPRequestHandler) -> None:
        """By hanging up."""
        handler.connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def garbage(handler: BaseHTTPRequestHandler) -> None:
        """With what is no HTTP."""
        handler.wfile.write(b"\x00\x01 what is this\r\n\r\n")

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Byte for byte, for minutes."""
        for byte in b"HTTP/1.1 200 OK\r\n" * 1000:
            if self.ended.wait(0.05):
                return
            handler.wfile.write(bytes([byte]))

    def redirect(self, handler: BaseHTTPRequestHandler) -> None:
        """With another place."""
        handler.send_response(307)
        handler.send_header("Location", self.url)
        handler.end_headers()

    def endless(self, handler: BaseHTTPRequestHandler) -> None:
        """Well, but without an end."""
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            if self.ended.wait(0.05):
                return
            handler.wfile.write(b"x" * 10_000)

    def close(self) -> None:
        """Ends whatever still hangs."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Told(list[Notice]):
    """A sender that keeps what it is told; it may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: Callable[[Notice], None] = lambda _: None
        self.calls = 0

    def __call__(self, notice: Notice) -> None:
        """Keeps it."""
        self.calls += 1
        self.fail(notice)
        self.append(notice)

    @property
    def lines(self) -> list[tuple[str, str, bool]]:
        """The rules, keys and states."""
        return [(notice.rule, notice.key, notice.firing) for notice in self]


class Given(Rule):
    """A rule that finds what it is given."""

    name = "given"
    alarms: Sequence[Alarm] = ()

    def look(self, seen: Seen) -> Iterator[Alarm]:  # noqa: ARG002
        """See `Rule`."""
        yield from type(self).alarms


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Waits until `condition` holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)
