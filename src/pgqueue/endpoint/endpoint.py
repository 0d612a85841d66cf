"""The public Endpoint: its options, and what carries a poke from a caller to the queue and back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pgqueue.aclient import AsyncClient
from pgqueue.bounded import REPLY_TIMEOUT
from pgqueue.client import Client
from pgqueue.connections import resolve_dsn
from pgqueue.drivers import AsyncDriver
from pgqueue.endpoint import options, signing
from pgqueue.endpoint.asgi import AsgiApp
from pgqueue.endpoint.background import Background
from pgqueue.endpoint.desk import Desk, Order, retry_after
from pgqueue.endpoint.messages import Response, lowered, response
from pgqueue.endpoint.openapi import document
from pgqueue.endpoint.poke import Poke, Workplace
from pgqueue.endpoint.wsgi import WsgiApp
from pgqueue.errors import ConfigurationError, EndpointBusy
from pgqueue.events import Use
from pgqueue.handlers import Handlers
from pgqueue.statements import DEFAULT_SCHEMA, Statements
from pgqueue.worker.observers import Observers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from pgqueue.endpoint.answer import Answer
    from pgqueue.events import Observer

GRACE_SECONDS = 0.25
"""Beyond the budget, for an event loop that is busy to say what it has done."""
CLOSE_SECONDS = 5.0
"""For running pokes to end in order when the endpoint is closed."""


class Endpoint:
    """Processes due jobs when an HTTP request, or a function call, pokes it.

    For hosts where no worker may stay up: pg_cron with pg_net, a cloud scheduler or any cron pokes
    it. A poke promotes and reaps what is due, then claims jobs, never more than it can run at once,
    and runs them as a `Worker` does, until none is ready, `limit` is reached or four fifths of
    `budget` are over. It answers within the budget:

    - Async handlers that still run after nine tenths of it are cancelled, and their jobs released:
      ready at once, the attempt not counted.
    - Sync handlers cannot be stopped. One that has not returned is answered as "running" and goes
      on, its lease too. If the process lives and nobody else has claimed the job when it returns,
      what it returns counts; otherwise it is refused, as in any worker. Its poke counts as running
      until then.
    - A process that is killed leaves its jobs to run again after their leases.

    Two ways in, of which either will do: a shared secret, as `Authorization: Bearer` or in a header
    of your choice; and a signature (see `sign`).

    `wsgi` and `asgi` are apps to mount; `respond` and `arespond` answer one request in frameworks
    that mount none; `process` and `aprocess` do the work without HTTP. All may be used at once,
    from any thread, and after a fork. `endpoint.close()` ends what is kept.

    Args:
        target: a client (only its DSN, schema, `prepare` and `reply_timeout` are used), a DSN, or
            None as in `Client`.
        handlers: what to run; jobs of other kinds are left alone.
        queues: one queue, several, or a mapping to weights, as in `Worker`; by default those that
            the kinds are registered with.
        secrets: shared secrets of 16 characters or more. While one is replaced, pass the old and
            the new.
        hmac_secrets: the same for signatures.
        header: a header that may carry a shared secret as well, such as X-Api-Key.
        insecure: let everybody poke. Without it, and without secrets, no endpoint is made.
        limit: the most jobs in one poke; a request may ask for fewer.
        batch: the most jobs in one claim; None: as many as can run.
        concurrency: how many jobs of one poke run at once.
        budget: how long a poke may take.
        lease: for how long a job stays ours, longer than the budget; None: 35 s longer.
        most_at_once: pokes in this process at once; more are answered 429, with a Retry-After.
        max_body: bytes of a request's body; more are answered 413, unread.
        replay_window: how far a signature's timestamp may be from this host's clock. Within it each
            signature is good for one request to this process.
        keep: whether connections are kept between pokes. False where a process is frozen after its
            answer: then each poke makes up to three, and closes them before it answers.
        show_errors: whether answers hold the texts of errors, redacted as in the job's history.
        private_health: whether GET needs the secret.
        observers: as in `Worker`, such as a `Watch` that has people alerted. In each process they
            begin with the first poke, and end with `close`; without `keep`, with each poke.
        schema: the schema, unless a client says.
        prepare: as in `Client`; likewise `reply_timeout`.
        name: the start of the names under which jobs show who ran them.

    Raises:
        ConfigurationError: an option cannot be, there are no handlers, or there is no secret.
    """

    def __init__(
        self,
        target: Client | AsyncClient | str | None,
        handlers: Handlers,
        *,
        queues: str | Sequence[str] | Mapping[str, float] | None = None,
        secrets: str | Sequence[str] | None = None,
        hmac_secrets: str | Sequence[str] | None = None,
        header: str | None = None,
        insecure: bool = False,
        limit: int = 10,
        batch: int | None = None,
        concurrency: int = 10,
        budget: timedelta = timedelta(seconds=25),
        lease: timedelta | None = None,
        most_at_once: int = 4,
        max_body: int = 16_384,
        replay_window: timedelta = timedelta(minutes=5),
        keep: bool = True,
        show_errors: bool = False,
        private_health: bool = False,
        observers: Sequence[Observer] = (),
        schema: str | None = None,
        prepare: bool | None = None,
        reply_timeout: timedelta | None = None,
        name: str | None = None,
    ) -> None:
        if target is not None and not isinstance(target, (Client, AsyncClient, str)):
            raise ConfigurationError(f"got a {type(target).__qualname__}; pass a client or a DSN")
        known: object = handlers
        if not isinstance(known, Handlers) or not known.kinds:
            raise ConfigurationError(
                "there are no handlers; pass a pgqueue.Handlers with some, registered before"
            )
        if isinstance(target, (Client, AsyncClient)):
            schema = schema or target.schema
            prepare = target.driver.prepare if prepare is None else prepare
            reply_timeout = reply_timeout or target.driver.reply_timeout
        reply_timeout = REPLY_TIMEOUT if reply_timeout is None else reply_timeout
        self.limits = options.checked(
            queues=sorted({kind.queue for kind in handlers.kinds}) if queues is None else queues,
            limit=limit,
            batch=batch,
            concurrency=concurrency,
            budget=budget,
            lease=lease,
            window=replay_window,
            most_at_once=most_at_once,
            max_body=max_body,
            reply_timeout=reply_timeout,
            name=name,
            keep=keep,
            show_errors=show_errors,
            private_health=private_health,
            observers=observers,
        )
        guard = _guard(secrets, hmac_secrets, header, replay_window, insecure=insecure)
        self.desk = Desk(self.limits, guard, lambda: len(self._here().pokes))
        self._target = target
        self._handlers = handlers
        self._statements = Statements(schema or DEFAULT_SCHEMA)
        self._settings = {"prepare": prepare, "reply_timeout": reply_timeout}
        self._observers = Observers(self.limits.worker.observers)
        self._place: Workplace | None = None
        self._state = _State()
        self._lock = threading.Lock()
        self.wsgi = WsgiApp(self)
        """A WSGI app. Pokes run on an event loop in a thread of the endpoint's."""
        self.asgi = AsgiApp(self)
        """An ASGI app. Pokes run on the server's event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Without HTTP

    def process(self, *, limit: int | None = None, queue: str | None = None) -> Answer:
        """One poke, from any thread; blocks for the budget at most. For a serverless function.

        Args:
            limit: the most jobs, up to the endpoint's own limit, which None stands for.
            queue: one of the endpoint's queues; None: all.

        Returns:
            `processed`, `succeeded`, `failed`, `skipped`, `more` and `results`; see `Answer`.

        Raises:
            InvalidJob: `limit` is above the endpoint's, or `queue` is not one of them.
            EndpointBusy: as many pokes run in this process as may at once.
            DatabaseUnavailable: no job could be claimed; `SchemaMissing` and so on likewise.
        """
        return self._process(self.desk.checked({"limit": limit, "queue": queue}))

    async def aprocess(self, *, limit: int | None = None, queue: str | None = None) -> Answer:
        """The same on the running event loop. Cancelled, it ends in order, and lets that pass."""
        return await self._aprocess(self.desk.checked({"limit": limit, "queue": queue}))

    # One request

    def respond(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """Answers one request, for frameworks that mount no apps. The body is read by then."""
        order = self._order(method, headers, body)
        if isinstance(order, Response):
            return order
        try:
            return response(200, self._process(order))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a response
            return self.desk.trouble(error)

    async def arespond(
        self, method: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Response:
        """The same on the running event loop."""
        order = self._order(method, headers, body)
        if isinstance(order, Response):
            return order
        try:
            return response(200, await self._aprocess(order))
        except Exception as error:  # noqa: BLE001
            return self.desk.trouble(error)

    def openapi(self) -> dict[str, Any]:
        """An OpenAPI 3.1 document of this endpoint, as found at the path /."""
        return document(self.limits, self.desk.guard)

    # The end

    def close(self) -> None:
        """Ends the pokes of this process in order, within seconds, and closes the connections.

        Used again, the endpoint makes new ones. Pokes of an event loop end by `aclose`.
        """
        state = self._here()
        with self._lock:
            background, state.background = state.background, None
            driver, state.thread_driver = state.thread_driver, None
        if background is not None:
            ending = self._end(state, driver)
            asyncio.run_coroutine_threadsafe(ending, background.loop).result(2 * CLOSE_SECONDS)
            background.stop()
            background.join(CLOSE_SECONDS)
            # Those that came too late to be begun, and those whose handlers still run.
            state.pokes -= {poke for poke in state.pokes if poke.loop is background.loop}
        self._unobserve(state)

    async def aclose(self) -> None:
        """Ends the pokes of the running event loop in order, and closes its connections."""
        state = self._here()
        driver, state.driver = state.driver, None
        await self._end(state, driver)
        self._unobserve(state)

    # Inside

    def _order(self, method: str, headers: Mapping[str, str], body: bytes) -> Order | Response:
        small = lowered(headers)
        early = self.desk.before_body(method, small, len(body))
        return self.desk.order(small, body) if early is None else early

    def _process(self, order: Order) -> Answer:
        poke = self._admitted(order)
        try:
            background, driver = self._thread(poke)
        except BaseException:
            self._over(poke)
            raise
        running = asyncio.run_coroutine_threadsafe(poke.run(driver), background.loop)
        try:
            return running.result(poke.seconds_left + GRACE_SECONDS)
        except concurrent.futures.TimeoutError:
            # A handler blocks the event loop; the poke ends when it lets go.
            return poke.answer()

    async def _aprocess(self, order: Order) -> Answer:
        poke = self._admitted(order)
        state = self._here()
        if self.limits.keep and state.driver is None:
            state.driver = self._driver()
        poke.loop = asyncio.get_running_loop()
        return await poke.run(state.driver)

    def _admitted(self, order: Order) -> Poke:
        place, state = self._workplace(), self._here()
        queues = place.limits.worker.order() if order.queue is None else [order.queue]
        with self._lock:
            if len(state.pokes) >= self.limits.most_at_once:
                soonest = min(poke.seconds_left for poke in state.pokes)
                raise EndpointBusy(self.limits.most_at_once, retry_after(soonest))
            poke = Poke(place, order.limit, queues, self._over)
            state.pokes.add(poke)
            if self._observers and not state.observed:
                state.observed = True
                self._observers.started(self.limits.worker.process_name(), self._use)
        return poke

    def _over(self, poke: Poke) -> None:
        """A poke's last handler has returned."""
        state = self._here()
        state.over(poke)
        if not (self.limits.keep or state.pokes):
            self._unobserve(state)

    def _unobserve(self, state: _State) -> None:
        with self._lock:
            observed, state.observed = state.observed, False
        if observed:
            self._observers.stopped()

    def _use(self) -> Use:
        pokes = list(self._here().pokes)
        held = sum(poke.held for poke in pokes)
        return Use(pools=(), held=held, unreported=sum(poke.unreported() for poke in pokes))

    def _thread(self, poke: Poke) -> tuple[Background, AsyncDriver | None]:
        """Where a poke of this thread's runs, and whose connections it uses."""
        if not self.limits.keep:
            background = Background()
            poke.on_over = background.stop
            poke.loop = background.loop
            return background, None
        state = self._here()
        with self._lock:
            if state.background is None:
                state.background, state.thread_driver = Background(), self._driver()
            poke.loop = state.background.loop
            return state.background, state.thread_driver

    def _driver(self) -> AsyncDriver:
        place = self._workplace()
        size = 3 * self.limits.most_at_once
        return AsyncDriver(place.dsn, place.statements.schema, size, **place.settings)

    def _workplace(self) -> Workplace:
        """Resolves the DSN, and so may start the embedded server."""
        if self._place is None:
            target = self._target
            self._place = Workplace(
                target.dsn if isinstance(target, (Client, AsyncClient)) else resolve_dsn(target),
                self._statements,
                self._handlers,
                self.limits,
                self._settings,
            )
        return self._place

    def _here(self) -> _State:
        """What is of this process: a child of a fork begins anew."""
        if self._state.pid != os.getpid():
            self._state, self._lock = _State(), threading.Lock()
        return self._state

    @staticmethod
    async def _end(state: _State, driver: AsyncDriver | None) -> None:
        loop, until = asyncio.get_running_loop(), time.monotonic() + CLOSE_SECONDS
        pokes = [poke for poke in list(state.pokes) if poke.loop is loop]
        for poke in pokes:
            poke.hurry()
        for poke in pokes:
            await poke.ended(max(until - time.monotonic(), 0.0))
        if driver is not None:
            await driver.close()


class _State:
    """What an endpoint has in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.pokes: set[Poke] = set()
        self.background: Background | None = None
        self.thread_driver: AsyncDriver | None = None
        self.driver: AsyncDriver | None = None
        """For the caller's event loop."""
        self.observed = False
        """Whether observers have been told that this process works."""

    def over(self, poke: Poke) -> None:
        """A poke's last handler has returned."""
        self.pokes.discard(poke)
        poke.on_over()


def _guard(
    secrets: object,
    hmac_secrets: object,
    header: object,
    window: timedelta,
    *,
    insecure: bool,
) -> signing.Guard:
    guard = signing.Guard(
        signing.checked_secrets(secrets, "secrets"),
        signing.checked_secrets(hmac_secrets, "hmac_secrets"),
        signing.checked_header(header),
        window.total_seconds(),
    )
    if guard.open and not insecure:
        raise ConfigurationError(
            "there is no secret, so that anybody could run jobs; pass secrets=[...] or "
            "hmac_secrets=[...] (is an environment variable missing?), or insecure=True where "
            "nobody else can reach the endpoint"
        )
    return guard
