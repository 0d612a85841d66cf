"""The other half of the double of pg_net: sends what was committed, and stores the answers.

pg_net cannot be had where the tests run. As it does, this takes requests out of its queue after the
commit, in a process of its own (here a thread), and never holds up who asked.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import attrs
import psycopg

TAKE = """
delete from net.http_request_queue where id in (
    select id from net.http_request_queue order by id limit 20 for update skip locked
) returning id, url, headers, body, timeout_milliseconds
"""
STORE = """
insert into net._http_response (id, status_code, content, timed_out, error_msg)
values (%s, %s, %s, %s, %s)
"""


@attrs.frozen
class Call:
    """What came in at the endpoint."""

    method: str
    headers: dict[str, str]
    body: Any


@attrs.define
class Site:
    """An endpoint that is called; in rotation it accepts the old secret and the new one."""

    url: str = ""
    secrets: set[str] = attrs.field(factory=set)
    calls: list[Call] = attrs.field(factory=list)
    released: threading.Event = attrs.field(factory=threading.Event)
    """Until this is set it gives no answer, if `slow`."""
    slow: bool = False

    def answer(self, call: Call) -> int:
        """The status for a call."""
        self.calls.append(call)
        if self.slow:
            self.released.wait(20)
        given = call.headers.get("Authorization", "").removeprefix("Bearer ")
        return 200 if not self.secrets or given in self.secrets else 401


@contextmanager
def site() -> Iterator[Site]:
    """A site on a port that is free."""
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = served.answer(Call("POST", dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"processed": 0}')

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/jobs/run"
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def post(url: str, headers: dict[str, str], body: bytes, seconds: float) -> tuple[Any, ...]:
    """Status, content, whether it timed out, and the error, as pg_net stores them."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request("POST", parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), False, None
    except TimeoutError:
        return None, None, True, f"Timeout of {seconds * 1000:.0f} ms reached"
    except OSError:
        return None, None, None, "Couldn't connect to server"
    finally:
        connection.close()


class Sender:
    """Sends all that was committed, once it is told to: tests decide when."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self) -> int:
        """Sends what waits; gives how many."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            return self._send(conn)

    def start(self) -> None:
        """From now on requests are sent as they are committed."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ends that."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("listen net_double")
            while not self._over.is_set():
                self._send(conn)
                list(conn.notifies(timeout=0.2, stop_after=1))

    def _send(self, conn: psycopg.Connection[Any]) -> int:
        taken = conn.execute(TAKE).fetchall()
        for request, url, headers, body, milliseconds in taken:
            conn.execute(STORE, (request, *post(url, headers, bytes(body), milliseconds / 1000)))
        return len(taken)
