"""The port of a worker: one or several processes, and clients that misbehave."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pgqueue import Client, ConfigurationError, Handlers, Worker
from pgqueue.metrics import MetricsServer, QueueMetrics, asgi_app, catalog, serve, wsgi_app
from pgqueue.metrics.server import WRITE_SECONDS
from pgqueue.metrics.shared import Folder
from pgqueue.metrics.tallies import Tallies

from .helpers import Samples, samples, scrape, until, value


@contextmanager
def command(folder: Path, dsn: str, *args: str) -> Iterator[tuple[int, Any]]:
    """Runs `pgqueue` with `args`; gives the port that it serves at, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pgqueue", *args],
        cwd=folder, env={**os.environ, "PGQUEUE_DSN": dsn}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        port = None
        while port is None:
            line = process.stderr.readline()
            assert line, "it ended"
            found = re.search(r"serving metrics at http://127\.0\.0\.1:(\d+)/metrics", line)
            port = int(found[1]) if found else None
        yield port, process
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


APP = """
import os, time
import pgqueue
handlers = pgqueue.Handlers()

@handlers.register("pid")
def pid(job):
    time.sleep(0.01)
    return os.getpid()

@handlers.register("die")
def die(job):
    os._exit(3)
"""


def test_processes_of_a_worker_are_one_target(
    client: Client, pgqueue_dsn: str, tmp_path: Path
) -> None:
    """Whoever answers adds them up; what a process counted before it died stays."""
    (tmp_path / "app.py").write_text(APP)
    options = ("--processes", "2", "-c", "1", "--lease", "1s", "--prefetch", "0")
    serving = ("--metrics-port", "0", "--metrics-host", "127.0.0.1")
    with command(tmp_path, pgqueue_dsn, "worker", "app:handlers", *options, *serving) as (port, _):

        def now() -> Samples:
            return samples(scrape(port))

        def work(jobs: int, total: int) -> None:
            client.enqueue_many([("pid", None)] * jobs)
            until(lambda: value(now(), "pgqueue_attempts_total", outcome="succeeded") == total)

        until(lambda: value(now(), "pgqueue_worker_processes") == 2)
        work(60, 60)
        time.sleep(1.5 * WRITE_SECONDS)  # what a process counted in its last second is not kept
        assert value(now(), "pgqueue_handlers_limit", pool="sync") == 2
        job = client.enqueue("die", max_attempts=1).id
        until(lambda: client.get(job).state == "dead")
        until(lambda: value(now(), "pgqueue_worker_processes") == 2)
        work(40, 100)
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_one_process_serves_without_files(client: Client, handlers: Handlers) -> None:
    """In the format that is asked for; anything else is 404."""
    with_port: list[str] = []

    def look(_: Any) -> None:
        with_port.append(scrape(server.port))
        with_port.append(scrape(server.port, "application/openmetrics-text; version=1.0.0"))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            httpx.get(f"http://127.0.0.1:{server.port}/").raise_for_status()

    def look_or_fail(job: Any) -> None:
        try:
            look(job)
        except httpx.HTTPStatusError as error:
            with_port.append(str(error.response.status_code))

    server = MetricsServer(0, host="127.0.0.1")
    handlers.register("a")(look_or_fail)
    client.enqueue("a")
    try:
        Worker(client, handlers, observers=[server]).run(until_idle=True)
    finally:
        server.close()
    plain, open_metrics, missing = with_port
    assert value(samples(plain), "pgqueue_handlers_running") == 1
    assert open_metrics.endswith("# EOF\n")
    assert missing == "404"


def test_clients_that_say_nothing_do_not_hold_up_others(client: Client, handlers: Handlers) -> None:
    """Nor the worker, which ends at once."""
    server = MetricsServer(0, host="127.0.0.1")
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    handlers.register("a")(lambda _: scrape(server.port))
    job = client.enqueue("a").id
    try:
        Worker(client, handlers, observers=[server]).run(until_idle=True)
        assert client.get(job).state == "succeeded"
    finally:
        server.close()
        for each in silent:
            each.close()


def test_port_in_use_is_an_error_before_the_worker_starts() -> None:
    """With what to do."""
    server = MetricsServer(0, host="127.0.0.1")
    try:
        with pytest.raises(ConfigurationError, match="choose another port"):
            MetricsServer(server.port, host="127.0.0.1")
    finally:
        server.close()
    with pytest.raises(ConfigurationError, match="0 to 65535"):
        MetricsServer(70_000)


def test_counts_of_dead_processes_are_added_up_once() -> None:
    """However many begin after them; gauges of theirs are gone."""
    folder = Folder()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    try:
        theirs = Tallies()
        theirs.count(catalog.BEATS_MISSED, by=5)
        theirs.gauge(catalog.PROCESSES, value=1)
        folder._write(f"{dead.pid}.json", theirs)
        before = folder.total(Tallies())
        for _ in range(3):
            folder.begin()
        after = folder.total(Tallies())
        key = (catalog.BEATS_MISSED.name, ())
        assert (before.counters[key], after.counters[key]) == (5, 5)
        assert after.gauges == {}
        assert sorted(path.name for path in folder.path.iterdir()) == ["ended.json", "lock"]
    finally:
        folder.remove()
    assert not folder.path.exists()


def test_database_is_served_by_a_command(client: Client, pgqueue_dsn: str, tmp_path: Path) -> None:
    """Until SIGTERM, also to several at once."""
    client.enqueue("a", queue="mail")
    args = ("metrics", "--port", "0", "--host", "127.0.0.1")
    with command(tmp_path, pgqueue_dsn, *args) as (port, _):
        found = samples(scrape(port))
        assert value(found, "pgqueue_jobs", queue="mail", state="ready") == 1


def test_apps_serve_the_same(client: Client) -> None:
    """As WSGI and as ASGI, where your server mounts them."""
    client.enqueue("a")
    looked = QueueMetrics(client)
    with httpx.Client(transport=httpx.WSGITransport(wsgi_app(looked))) as browser:
        by_wsgi = browser.get("http://x/metrics").text

    async def get() -> str:
        transport = httpx.ASGITransport(asgi_app(looked))
        async with httpx.AsyncClient(transport=transport) as browser:
            return (await browser.get("http://x/metrics")).text

    by_asgi = asyncio.run(get())
    served = serve(looked, port=0, host="127.0.0.1")
    by_port = scrape(served.port)
    served.close()
    looked.close()
    for text in (by_wsgi, by_asgi, by_port):
        assert value(samples(text), "pgqueue_jobs", state="ready") == 1
