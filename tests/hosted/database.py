"""SQL apart from any client, and waiting for what a server does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

HERE = Path(__file__).parent


class Sql:
    """Runs SQL apart from any client."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.conn = psycopg.connect(dsn, autocommit=True)

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`; of its last statement, if it has several."""
        cursor = self.conn.execute(query.encode(), params or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *params: object) -> Any:
        """Its only value."""
        ((value,),) = self(query, *params)
        return value

    def double(self, name: str) -> None:
        """Installs the double of an extension: `net`, `vault` or `cron`."""
        self((HERE / f"{name}_double.sql").read_text("utf-8"))


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for what others do in their own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
