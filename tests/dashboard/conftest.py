"""Fixtures of the dashboard's tests: a browser that speaks HTTP only, and one that is real."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx
import psycopg
import pytest

from pgqueue import Client
from pgqueue.dashboard import Dashboard, User

ORIGIN = "http://queue.test"
OPERATOR, VIEWER = User("ada", "operator"), User("vic", "viewer")


@attrs.define
class Browser:
    """Asks a dashboard in this process, keeps cookies, and fills in forms."""

    app: Any
    cookies: httpx.Cookies = attrs.field(factory=httpx.Cookies)
    base: str = ORIGIN

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; redirects are not followed."""
        return asyncio.run(self._ask(method, path, **options))

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(
            transport=transport, base_url=self.base, cookies=self.cookies
        ) as client:
            answer = await client.request(method, path, **options)
            self.cookies = client.cookies
            return answer

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A page."""
        return self.ask("GET", path, **options)

    def post(
        self, path: str, fields: dict[str, str] | None = None, *, page: str = "/", **headers: str
    ) -> httpx.Response:
        """Sends a form as a browser does, with the token of a page."""
        given = {"csrf": token(self.get(page).text), **(fields or {})}
        sent = {"Origin": self.base, "Sec-Fetch-Site": "same-origin", **headers}
        return self.ask("POST", path, data=given, headers=sent)

    def said(self) -> str:
        """What the page after a form begins with."""
        found = re.search(r'role="status">(.*?)</div>', self.get("/workers").text)
        return html.unescape(found[1]) if found else ""


def token(page: str) -> str:
    """The token of a page's forms."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    return found[1] if found else ""


Make = Callable[..., Browser]


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of this test's database."""
    return pgqueue_client


@pytest.fixture
def make(client: Client) -> Make:
    """Makes browsers at dashboards of that database; an operator unless told otherwise."""

    def make(user: User | None = OPERATOR, **options: Any) -> Browser:
        if "users" not in options:
            options.setdefault("auth", lambda _: user)
        return Browser(Dashboard(client, **options))

    return make


@pytest.fixture
def browser(make: Make) -> Browser:
    """An operator's."""
    return make()


@pytest.fixture
def role(pgqueue_dsn: str) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"pgqueue_dash_{psycopg.conninfo.conninfo_to_dict(pgqueue_dsn)['dbname']}"
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(f"create role {name} login".encode())
        yield name
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())
