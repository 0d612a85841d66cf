"""Serves metrics over HTTP: those of a worker of one process or several, or any collector's."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pgqueue.errors import ConfigurationError
from pgqueue.metrics import catalog
from pgqueue.metrics.render import families
from pgqueue.metrics.shared import Folder
from pgqueue.metrics.worker import WorkerMetrics

if TYPE_CHECKING:
    from pgqueue.events import Use

EVERYWHERE = "0.0.0.0"  # noqa: S104 - a scraper is on another machine
WRITE_SECONDS = 1.0
"""Between two times that a process writes its tallies for the others."""
REQUEST_SECONDS = 10.0
"""That a client may keep silent."""
END_SECONDS = 1.0
_PORTS = range(65_536)


class MetricsServer(WorkerMetrics):
    """The metrics of a worker on one port, however many processes it has.

    The port is bound here, before the worker forks, and listened to by all its processes; whichever
    answers adds up what all of them counted, those that died included. So there is one target to
    scrape, and counters do not fall when a process is replaced. The others' are up to a second old.

    Served are `/metrics`, in Prometheus's text format or OpenMetrics, to whoever can reach the
    port: names of queues and kinds stand in it, and no payloads. Close it when the worker has
    ended.

    Args:
        port: where; 0 takes a free one, see `port`.
        host: the address; by default all of IPv4.
        processes: as of the worker.
        most_labels: as in `WorkerMetrics`.

    Raises:
        ConfigurationError: the port is in use, or may not be taken.
    """

    def __init__(
        self, port: int, *, host: str = EVERYWHERE, processes: int = 1, most_labels: int = 100
    ) -> None:
        super().__init__(most_labels=most_labels)
        self._socket = listening(port, host)
        self._folder = Folder() if processes > 1 else None
        self._server: _Server | None = None
        self._ending = threading.Event()
        self._writer: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Closes the port, and removes what the processes wrote; once the worker has ended."""
        self._socket.close()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    # As an observer

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """Serves, in threads of this process."""
        super().started(worker, use)
        self._ending = threading.Event()
        if self._folder is not None:
            self._folder.begin()
            self._folder.write(self.tallies())
            self._writer = threading.Thread(target=self._write, name="pgqueue-metrics", daemon=True)
            self._writer.start()
        self._server = _Server(self._socket, [self])

    def stopped(self) -> None:
        """Leaves what was counted to the other processes."""
        super().stopped()
        self._ending.set()
        if self._writer is not None:
            self._writer.join(END_SECONDS)
        if self._folder is not None:
            self._folder.write(self.tallies())
        if self._server is not None:
            self._server.stop()

    def _write(self) -> None:
        while not self._ending.wait(WRITE_SECONDS):
            if self._folder is not None:
                self._folder.write(self.tallies())

    # As a collector

    def collect(self) -> Iterable[Family]:
        """Of all processes together."""
        own = self.tallies()
        return families(catalog.WORKER, own if self._folder is None else self._folder.total(own))


class _Server(ThreadingHTTPServer):
    """Answers on a socket that listens already, and that other processes may listen to as well."""

    daemon_threads = True
    block_on_close = False
    timeout = 0  # of handle_request: another process may have been quicker

    def __init__(self, listener: socket.socket, collectors: Iterable[Collector]) -> None:
        super().__init__(("", 0), _handler(registry(collectors)), bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._bell, self._ringer = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, name="pgqueue-metrics-http", daemon=True
        )
        self._thread.start()

    def _serve(self) -> None:
        """Until `stop`: `serve_forever` would look now and then whether it is to end."""
        with selectors.DefaultSelector() as selector:
            for each in (self.socket, self._bell):
                selector.register(each, selectors.EVENT_READ)
            while self._bell not in {key.fileobj for key, _ in selector.select()}:
                self.handle_request()

    def stop(self) -> None:
        """Ends it; the socket stays."""
        self._ringer.close()
        self._thread.join(END_SECONDS)
        self._bell.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that went away is not worth a traceback on stderr."""


class Served:
    """What `serve` has started."""

    def __init__(self, listener: socket.socket, server: _Server) -> None:
        self._listener = listener
        self._server = server
        self.port: int = listener.getsockname()[1]
        """Where it listens."""

    def close(self) -> None:
        """Ends it."""
        self._server.stop()
        self._listener.close()


def serve(*collectors: Collector, port: int, host: str = EVERYWHERE) -> Served:
    """Serves collectors, `QueueMetrics` say, at /metrics, from threads of this process.

    Raises:
        ConfigurationError: the port is in use, or may not be taken.
    """
    listener = listening(port, host)
    return Served(listener, _Server(listener, collectors))


def registry(collectors: Iterable[Collector]) -> CollectorRegistry:
    """A registry of them alone."""
    made = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        made.register(collector)
    return made


def listening(port: int, host: str) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: the port is in use, or may not be taken.
    """
    given: object = port
    if not isinstance(given, int) or given not in _PORTS:
        raise ConfigurationError(f"port is {port!r}; pass a number from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        # Several processes are woken by one client, and those that come too late must not wait.
        listener.settimeout(0)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port"
        ) from error
    return listener


def _handler(served: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version = "pgqueue"
        sys_version = ""

        def do_GET(self) -> None:
            """Answers a scrape."""
            path = self.path.partition("?")[0]
            if path != "/metrics":
                self._answer(404, "text/plain", b"look at /metrics\n")
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(served))

        def do_HEAD(self) -> None:
            """The same without a body."""
            self.do_GET()

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape every some seconds is no news."""

    return Handler
