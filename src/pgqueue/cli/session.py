"""What the common options say, and the client that they lead to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import attrs
import click

from pgqueue.client import Client
from pgqueue.connections import ENVIRONMENT, resolve_dsn
from pgqueue.errors import ConfigurationError, EmbeddedServerError
from pgqueue.statements import DEFAULT_SCHEMA, Statement


def _only(rows: list[tuple[Any, ...]]) -> Any:  # noqa: ANN401 - one value of any type
    return rows[0][0]


@attrs.define
class Session:
    """One run of the command line."""

    dsn: str | None = attrs.field(default=None, repr=False)
    schema: str = DEFAULT_SCHEMA
    json: bool = False
    utc: bool = False
    verbose: int = 0
    resolved_dsn: str | None = attrs.field(default=None, repr=False)
    """The DSN that `find` found."""
    _client: Client | None = None

    def client(self) -> Client:
        """The client for the database that was asked for; the same one at each call."""
        if self._client is None:
            self._client = Client(self.find(), schema=self.schema, pool_size=1)
        return self._client

    def find(self) -> str:
        """The DSN to use, without a connection being made (an embedded server may be started).

        Raises:
            click.UsageError: what is given cannot be parsed.
            EmbeddedServerError: none is given, and the embedded server does not start.
        """
        if self.resolved_dsn is None:
            try:
                self.resolved_dsn = resolve_dsn(self.dsn)
            except EmbeddedServerError:
                raise
            except ConfigurationError:
                # Its message quotes the DSN, and so the password.
                source = ENVIRONMENT if self.dsn is None else "--dsn"
                raise click.UsageError(
                    f"the DSN in {source} cannot be parsed; write it as "
                    "postgresql://user@host:5432/database, or as 'host=localhost dbname=app'"
                ) from None
        return self.resolved_dsn

    def value(self, sql: str, *params: object) -> Any:  # noqa: ANN401 - of any type
        """The one value that a query gives."""
        return self.client().driver.run(Statement(sql, params, _only))

    def clock(self) -> datetime:
        """The database's time: what is due is due by that, not by this machine's."""
        now: datetime = self.value("select clock_timestamp()")
        return now

    def moment(self, when: datetime | timedelta | None) -> datetime | None:
        """`when`; a span is counted from now on.

        Raises:
            click.UsageError: it is over already, or later than a datetime can say.
        """
        if when is None:
            return None
        now = self.clock()
        try:
            moment = now + when if isinstance(when, timedelta) else when
        except OverflowError:
            raise click.UsageError("this ends after the year 9999") from None
        if moment <= now:
            raise click.UsageError(f"{moment.isoformat()} is past; name a time to come")
        return moment

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()


pass_session = click.make_pass_decorator(Session)
