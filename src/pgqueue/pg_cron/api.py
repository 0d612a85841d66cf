"""The adapter itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from pgqueue import readers
from pgqueue.arguments import whole
from pgqueue.errors import ConfigurationError
from pgqueue.pg_cron import advice, script, verify, where
from pgqueue.pg_cron.models import SECRET, CronFailure, CronFinding, CronJob, CronRun, plain_name
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.client import Client
    from pgqueue.models import Maintenance
    from pgqueue.pg_cron.models import Poke
    from pgqueue.pg_cron.where import Place
    from pgqueue.readers import Row

_MOST = 10_000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)


class PgCron:
    """Jobs of pg_cron for the queue of `client`, made, looked after and removed.

    They run as the client's role, and only those of that role are seen. pg_cron lives in one
    database of a server: the client's, or the one that the server's settings name (where this role
    may read them), or `database`. All methods may be called again and again.

    Every method may raise `ConfigurationError` where pg_cron or pg_net are missing, and
    `PermissionDenied` with the grants that this role needs.
    """

    def __init__(self, client: Client, *, database: str | None = None) -> None:
        self._client = client
        self._database = database
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        """Where pg_cron is; looked up once."""
        if self._place is None:
            self._place = where.find(self._client, self._database)
        return self._place

    def close(self) -> None:
        """Closes the connection to the database of pg_cron, if that is not the client's."""
        if self._place is not None and self._place.elsewhere is not None:
            self._place.driver.close()
        self._place = None

    def install(
        self, endpoint: Poke | None = None, *, every: timedelta = script.MINUTE
    ) -> list[CronJob]:
        """Has pg_cron do the upkeep and fire schedules; or poke `endpoint`, which includes both.

        What is there under the same name is changed, and stays paused if it was. Gives the jobs,
        with their databases and user.

        Args:
            endpoint: what to poke while jobs of its queue are ready; None: no HTTP at all.
            every: how often: 1 to 59 seconds, or minutes that divide an hour, or hours that divide
                a day. Seconds need pg_cron 1.5; before, one run a minute does them, which holds a
                connection all the minute.
        """
        jobs = script.plan(self._client.schema, endpoint, every)
        elsewhere = self.place.elsewhere
        for job in jobs:
            script.job_name(self._client.schema, job.name, self.place.queue_database)
        self.place.check_rights()
        # First the settings: pg_cron may start right away.
        if endpoint is not None:
            self._execute(script.put_endpoint(self._client.schema, endpoint), there=False)
        for job in jobs:
            self._execute(script.put_job(self._client.schema, job, elsewhere), there=True)
        return self.jobs()

    def jobs(self) -> list[CronJob]:
        """What is installed, by this role for this queue."""
        self.place.check_rights()
        return self.place.driver.run(self._jobs())

    def pause(self, *names: str) -> list[CronJob]:
        """Lets these jobs start no more (without names all), and keeps them. Gives the changed."""
        return self._alter(names, active=False)

    def resume(self, *names: str) -> list[CronJob]:
        """Lets paused jobs go on. Gives those that were."""
        return self._alter(names, active=True)

    def remove(self) -> list[CronJob]:
        """Removes all jobs, the endpoints, and the secrets that they were called with."""
        found = self.jobs()
        for job in found:
            self.place.driver.run(
                Statement("select cron.unschedule(%s::bigint)", (job.id,), readers.one)
            )
        text = script.remove_settings(self._client.schema)
        self._execute(text, there=False)
        return found

    def run(self, endpoint: str | None = None, *, force: bool = False) -> Maintenance | int | None:
        """Does now what pg_cron would do: the upkeep, or poke an endpoint.

        Args:
            endpoint: its name; None does the upkeep, and gives what was done.
            force: call the endpoint though nothing is ready, to try it.

        Returns:
            The id of the request in pg_net, None if none was needed; or what the upkeep did.

        Raises:
            SecretMissing: the endpoint's secret is nowhere.
        """
        if endpoint is None:
            return self._client.maintain()
        sql = f"select {self._quoted}.poke(%s, %s)"
        request: int | None = self._client.driver.run(
            Statement(sql, (plain_name(endpoint, "endpoint"), force), readers.one)
        )
        return request

    def sync_secret(self, value: str, name: str = SECRET, *, store: str | None = None) -> str:
        """Puts the secret that an endpoint is called with; it holds from the next call on.

        Nothing has to be scheduled anew. To rotate, have the endpoint accept the old one and the
        new, put the new one here, and then have the endpoint forget the old.

        Args:
            value: 1 to 4096 characters of ASCII without spaces.
            name: the secret's name.
            store: "vault" or "table"; None: where it is, a new one in Vault if there is one.

        Returns:
            Where it is now: "vault" or "table".
        """
        if not isinstance(value, str):
            raise ConfigurationError("the secret's value is no text; pass a string")
        sql = f"select {self._quoted}.put_secret(%s, %s, %s)"
        params = (plain_name(name, "the secret's name"), value, store)
        place: str = self._client.driver.run(Statement(sql, params, readers.one))
        return place

    def history(self, limit: int = 20) -> list[CronRun]:
        """The last runs, the latest first, as pg_cron has noted them. Kept for a week."""
        rows = self._runs(limit, failed=False)
        return [CronRun(*row) for row in rows]

    def failures(self, limit: int = 100) -> list[CronFailure]:
        """What failed of the last runs and requests, the latest first, and what to do about it.

        Requests: only those that this queue made, and that pg_net still remembers (hours).
        """
        failed = [self._failed_run(row) for row in self._runs(limit, failed=True)]
        if verify.sees_net(self._client):
            failed += verify.failed_requests(self._client, limit)
        return sorted(failed, key=_moment, reverse=True)[:limit]

    def verify(self) -> list[CronFinding]:
        """Looks whether all is in place and works; writes nothing."""
        return verify.findings(self)

    @property
    def client(self) -> Client:
        """The client of the queue."""
        return self._client

    @property
    def _quoted(self) -> str:
        return self._client.statements.quoted

    def _execute(self, text: str, *, there: bool) -> None:
        driver = self.place.driver if there else self._client.driver
        with driver.transaction() as conn:
            conn.execute(text.encode())

    def _jobs(self) -> Statement[list[CronJob]]:
        text = script.select_jobs(self._client.schema, self.place.elsewhere)
        return Statement(text.replace("%", "%%"), (), self._read_jobs)

    def _read_jobs(self, rows: list[Row]) -> list[CronJob]:
        queue = self.place.queue_database
        return [script.read_job(row, self._client.schema, queue) for row in rows]

    def _alter(self, names: tuple[str, ...], *, active: bool) -> list[CronJob]:
        found = self.jobs()
        unknown = set(names) - {job.name for job in found}
        if unknown:
            listed = ", ".join(job.name for job in found) or "none"
            raise ConfigurationError(
                f"there is no job {min(unknown)!r} (installed: {listed}); see `pgqueue cron verify`"
            )
        self.place.check_rights(alter=True)
        wanted = [
            job for job in found if job.active is not active and (not names or job.name in names)
        ]
        for job in wanted:
            sql = "select cron.alter_job(%s::bigint, active := %s::boolean)::text"
            self.place.driver.run(Statement(sql, (job.id, active), readers.one))
        return wanted

    def _runs(self, limit: int, *, failed: bool) -> list[Row]:
        whole(limit, "limit", 1, _MOST)
        names = {job.id: job.name for job in self.jobs()}
        only = "and d.status = 'failed' " if failed else ""
        sql = (
            "select d.runid, d.jobid, d.status, coalesce(d.return_message, ''), d.start_time, "
            f"d.end_time from cron.job_run_details d where d.jobid = any (%s::bigint[]) {only}"
            "order by d.runid desc limit %s"
        )
        ids = "{" + ",".join(map(str, names)) + "}"
        rows: list[Row] = self.place.driver.run(Statement(sql, (ids, limit), list))
        return [(run, names[job], *rest) for run, job, *rest in rows]

    def _failed_run(self, row: Row) -> CronFailure:
        _, job, _, message, started, ended = row
        return CronFailure(
            job=job, at=ended or started, request_id=None, status=None, error=message.strip(),
            advice=advice.of_run(message, self._client.schema, self.place.user),
        )  # fmt: skip


def _moment(failure: CronFailure) -> datetime:
    return failure.at or _LONG_AGO
