"""The dashboard as an application: ASGI, and WSGI over a bridge."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from pgqueue.client import Client
from pgqueue.dashboard import options as checks
from pgqueue.dashboard.database import READ_DEADLINE, client_of
from pgqueue.dashboard.desk import Desk
from pgqueue.dashboard.headers import SecurityHeaders
from pgqueue.dashboard.pages import routes
from pgqueue.statements import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool
    from starlette.types import ASGIApp, Receive, Scope, Send
    from typing_extensions import Self

    from pgqueue.dashboard.options import Auth, Redact
    from pgqueue.dashboard.users import Users

    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dashboard:
    """Pages that show a queue and mend it: an ASGI app, to be served or mounted.

    It lets nobody in of whom it does not know that they may: `users` or `auth` must be given. All
    reads have a deadline, all actions are in the audit log. Nothing is connected before the first
    request.

    Args:
        target: a `Client`, a `psycopg_pool.ConnectionPool`, a DSN, or None as in `Client`. Its
            role's rights are the most that the dashboard can do: `grant_access(..., 'viewer')` is
            enough to look.
        schema: the schema that holds pgqueue's tables; of a `Client`, its own.
        users: lines of names, roles and hashed tokens, as `pgqueue dashboard-user` makes them.
        auth: instead of users: a function, sync or async, from Starlette's `Request` to a `User`,
            or None for nobody. Over WSGI, `request.scope["wsgi_environ"]` is the environment.
        login_url: with `auth`, where nobody is sent to; None: they are told that it is not for
            them.
        secret: signs sessions and forms, 16 characters or more; None: a random one. Pass one where
            several processes serve the dashboard, or where logins are to outlive a restart.
        title: the name at the top.
        redact: gets a `JobDetail` and returns it as it may be seen; `hide_payload` is one.
        search_payloads: whether jobs can be searched by payload and by text in errors; None: only
            without `redact`, since a search tells what is hidden.
        origins: where a proxy changes the Host header: the origins that the browser sees.
        session: how long a login lasts.
        deadline: after which the database is told to stop a read.
        secure: whether cookies are for HTTPS alone; None: if the request came by HTTPS.

    Raises:
        ConfigurationError: neither `users` nor `auth` is given, or an option cannot be.
    """

    def __init__(
        self,
        target: Client | ConnectionPool[Any] | str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        users: Iterable[str] | Users | None = None,
        auth: Auth | None = None,
        login_url: str | None = None,
        secret: str | None = None,
        title: str = "pgqueue",
        redact: Redact | None = None,
        search_payloads: bool | None = None,
        origins: Collection[str] = (),
        session: timedelta = timedelta(hours=12),
        deadline: timedelta = READ_DEADLINE,
        secure: bool | None = None,
    ) -> None:
        options = checks.checked(
            users=users, auth=auth, secret=secret, login_url=login_url, title=title, redact=redact,
            search_payloads=search_payloads, origins=origins, session=session, deadline=deadline,
            secure=secure,
        )  # fmt: skip
        self._own = not isinstance(target, Client)
        self.desk = Desk(client_of(target, schema), options)
        inner = Starlette(routes=routes(self.desk))
        self.desk.router = inner.router
        self._app: ASGIApp = SecurityHeaders(inner)
        self._bridge: tuple[int, WsgiApp] | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or the messages of a server's life."""
        await self._app(scope, receive, send)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The same as a WSGI app. Pages then ask for news now and then, instead of by a stream."""
        return self._bridged()(environ, start_response)

    def beside(self, app: WsgiApp, path: str) -> WsgiApp:
        """A WSGI app that has the dashboard below `path`, and `app` everywhere else."""
        prefix = "/" + path.strip("/")

        def both(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            asked = environ.get("PATH_INFO", "")
            if asked != prefix and not asked.startswith(f"{prefix}/"):
                return app(environ, start_response)
            below = {
                **environ,
                "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
                "PATH_INFO": asked[len(prefix) :],
            }
            return self.wsgi(below, start_response)

        return both

    def _bridged(self) -> WsgiApp:
        # Its loop runs in a thread, which the child of a fork has not.
        with self._lock:
            if self._bridge is None or self._bridge[0] != os.getpid():
                from a2wsgi import ASGIMiddleware  # noqa: PLC0415 - only where it is needed

                made: Any = ASGIMiddleware(self._app)  # type: ignore[arg-type] # its own types of ASGI
                self._bridge = (os.getpid(), made)
            return self._bridge[1]

    def close(self) -> None:
        """Closes the connections, unless a client was given."""
        if self._own:
            self.desk.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
