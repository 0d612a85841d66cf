"""The watch: looks every some seconds, and has people told; inside a worker, or by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import psycopg

from pgqueue.aclient import AsyncClient
from pgqueue.alerts import notices
from pgqueue.alerts.counts import Counts
from pgqueue.alerts.notices import Alarm, Notice
from pgqueue.alerts.rules import DEFAULT_RULES, Rule, Seen
from pgqueue.alerts.senders import SendFailed
from pgqueue.client import Client
from pgqueue.errors import ConfigurationError, SchemaError
from pgqueue.events import Observer
from pgqueue.masking import first_line
from pgqueue.statements import DEFAULT_SCHEMA
from pgqueue.vitals import attempt_counts, count_attempts, vitals

if TYPE_CHECKING:
    from pgqueue.alerts.senders import Sender
    from pgqueue.events import Ended, Outcome, Use
    from pgqueue.statements import Statement
    from pgqueue.vitals import AttemptCounts

logger = logging.getLogger("pgqueue.alerts")

REPLY_TIMEOUT = timedelta(seconds=10)
TRIES = 3
"""Of each sender, for one notice; after that it is up to whoever looks once the lease is over."""
FIRST_PAUSE = 0.5
"""Seconds before the second try, doubling."""
LEASE = timedelta(minutes=1)
"""For so long a notice is one process's to tell; if it dies meanwhile, another tells it then."""
LONGEST_PAUSE = timedelta(minutes=10)
"""Turns that are further apart are not told from a clock that was set back."""
END_SECONDS = 2.0
"""For the thread to end with its worker."""


class Watch(Observer):
    """Looks for what is wrong every some seconds, and tells people: once, however many watch.

    Give it to workers, `Worker(..., observers=[watch])`: it runs in a thread of its own, with a
    connection of its own, so that a webhook that does not answer holds up no job. Or call `run`, as
    `pgqueue watch` does: without workers that watch, nothing is known of failed attempts, but all
    else is.

    All that watch one schema share the turns: each `every` one of them looks. Of what is found
    wrong there is one row in the table `alert`, and whoever takes the notice is the only one to
    tell it. It counts as told once one of the senders has taken it; if the process dies before
    that, another tells it a minute later. It is told again after the rule's cool-down while it
    goes on, no sooner where it comes and goes, and once when it is over.

    Args:
        target: a client (only its DSN and schema are used), a DSN, or None as in `Client`.
        senders: each is called with a `Notice`, in turn: `Webhook`, `Sentry`, or any function.
            One that raises is tried three times in all, within seconds; no error is fatal.
        rules: what counts as wrong; no two of one name.
        every: how often to look.
        schema: the schema, unless a client says.

    Raises:
        ConfigurationError: an argument cannot be.
    """

    def __init__(
        self,
        target: Client | AsyncClient | str | None,
        *,
        senders: Sequence[Sender],
        rules: Sequence[Rule] = DEFAULT_RULES,
        every: timedelta = timedelta(seconds=10),
        schema: str | None = None,
    ) -> None:
        if not senders or not all(map(callable, senders)):
            raise ConfigurationError("senders has none; pass functions that take a Notice")
        names = [rule.name for rule in rules]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError("rules is empty, or has two of one name; pass one of each")
        pause: object = every
        if not isinstance(pause, timedelta) or not timedelta(0) < pause <= LONGEST_PAUSE:
            raise ConfigurationError(f"every is {every!r}; pass a timedelta of up to 10 minutes")
        if isinstance(target, (Client, AsyncClient)):
            schema = schema or target.schema
        self._target = target
        self._schema = schema or DEFAULT_SCHEMA
        self._senders = tuple(senders)
        self._rules = tuple(rules)
        self._every = every
        self._counts = Counts()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # As an observer

    def started(self, worker: str, use: Callable[[], Use]) -> None:  # noqa: ARG002
        """Begins to watch, in a thread."""
        self._stopping = threading.Event()  # after a fork, nobody has the old one's lock
        self._counts = Counts()
        self._thread = threading.Thread(target=self._live, name="pgqueue-watch", daemon=True)
        self._thread.start()

    def stopped(self) -> None:
        """Ends the thread; it adds what it has counted, and waits for no webhook."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """Counts."""
        self._counts.add(outcome, endings)

    # By itself

    def run(self) -> None:
        """Watches in this thread until `stop`. Trouble with the database is waited out."""
        self._live()

    def run_until(self, over: threading.Event) -> None:
        """The same until `over` is set."""
        self._stopping = over
        self._live()

    def stop(self) -> None:
        """Ends `run`; from any thread or signal handler."""
        self._stopping.set()

    def look(self) -> int:
        """Looks once, whoever's turn it is, and tells; how many notices were taken by a sender."""
        with self._client() as client:
            self._flush(client)
            return self._round(client)

    # Inside

    def _client(self) -> Client:
        target = self._target
        dsn = target.dsn if isinstance(target, (Client, AsyncClient)) else target
        return Client(dsn, schema=self._schema, pool_size=1, reply_timeout=REPLY_TIMEOUT)

    def _live(self) -> None:
        with self._client() as client:
            while not self._stopping.wait(self._every.total_seconds()):
                self._guarded(client, self._step)
            self._guarded(client, self._flush)

    def _guarded(self, client: Client, step: Callable[[Client], object]) -> None:
        try:
            step(client)
        except (psycopg.Error, SchemaError) as error:
            logger.warning("cannot look for alerts, and try again: %s", first_line(error))
        except Exception as error:  # noqa: BLE001 - a rule's own; the watch goes on
            logger.error("the watch failed, and goes on: %s", first_line(error))  # noqa: TRY400

    def _step(self, client: Client) -> None:
        self._flush(client)
        # A little less than the pause, or the next turn would be missed by a hair.
        if client.driver.run(notices.turn(client.statements.quoted, self._every * 0.9)):
            self._round(client)

    def _flush(self, client: Client) -> None:
        counts = self._counts.take()
        if counts:
            try:
                client.driver.run(count_attempts(client.statements.quoted, counts))
            except Exception:
                self._counts.put_back(counts)
                raise

    def _round(self, client: Client) -> int:
        due = client.driver.run(self._noted(client))
        sent = 0
        for notice in due:
            if not self._send(notice):
                continue
            sent += 1
            client.driver.run(notices.told(client.statements.quoted, notice))
        return sent

    def _noted(self, client: Client) -> Statement[list[Notice]]:
        quoted = client.statements.quoted

        @lru_cache
        def attempts(span: timedelta) -> Mapping[str, AttemptCounts]:
            return client.driver.run(attempt_counts(quoted, span))

        seen = Seen(client.driver.run(vitals(quoted)), attempts)
        found: list[tuple[Rule, Alarm]] = [
            (rule, alarm) for rule in self._rules for alarm in rule.look(seen)
        ]
        return notices.note(quoted, self._schema, found, self._rules, LEASE)

    def _send(self, notice: Notice) -> bool:
        """Whether any of the senders took it."""
        until = time.monotonic() + LEASE.total_seconds() * 0.8
        taken = [self._send_by(sender, notice, until) for sender in self._senders]
        return any(taken)

    def _send_by(self, sender: Sender, notice: Notice, until: float) -> bool:
        for number in range(1, TRIES + 1):
            try:
                sender(notice)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are told
                # Its class alone: a text may quote a secret.
                said = first_line(error) if isinstance(error, SendFailed) else type(error).__name__
                logger.warning(
                    "the alert %s was not taken by %s: %s",
                    f"{notice.rule} {notice.key}".rstrip(), _name(sender), said,
                )  # fmt: skip
            else:
                return True
            pause = FIRST_PAUSE * 2.0 ** (number - 1)
            if number == TRIES or time.monotonic() + pause > until or self._stopping.wait(pause):
                break
        return False


def _name(sender: Sender) -> str:
    name = getattr(sender, "__name__", None)  # a function's
    return name if isinstance(name, str) else type(sender).__name__
