"""Each question as a value: see `pgqueue.statements`. All its facts come with one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue import jsontext
from pgqueue.arguments import checked_id, checked_name, checked_schema, name_or_none
from pgqueue.sessions import HOLDERS
from pgqueue.statements import Statement
from pgqueue.why import jobs, others
from pgqueue.why.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgqueue.readers import Row
    from pgqueue.why.models import Explanation

# Without the sessions' queries, in which somebody's data may stand.
_HOLDERS = (
    "select coalesce(json_agg(json_build_object('pid', h.pid, 'program', h.program, "
    "'user', h.username, 'state', h.state, 'seconds', h.seconds, 'xids', h.xids, "
    f"'writes', h.writes)), '[]') from ({HOLDERS}) h"
)


class WhyStatements:
    """The questions about one schema."""

    def __init__(self, schema: str) -> None:
        self.quoted = f'"{checked_schema(schema)}"'

    def job(self, job_id: int) -> Statement[Explanation]:
        """Why a job does not run."""
        job_id = checked_id(job_id)
        sql = f"select {self.quoted}._why_job(%s)::text, ({_HOLDERS})::text"
        return Statement(sql, (job_id,), _reader(lambda facts: jobs.explain(job_id, facts)))

    def queue(self, queue: str) -> Statement[Explanation]:
        """Why the jobs of a queue do not run."""
        queue = checked_name(queue, "queue")
        sql = f"select {self.quoted}._why_queue(%s)::text, ({_HOLDERS})::text"
        return Statement(sql, (queue,), _reader(lambda facts: others.explain_queue(queue, facts)))

    def key(self, key: str, kind: str | None, queue: str | None) -> Statement[Explanation]:
        """Who holds a dedupe key."""
        key = jsontext.checked_text(key, "dedupe_key")
        sql = f"select {self.quoted}._why_key(%s, %s, %s)::text, null"
        params = (key, name_or_none(kind, "kind"), name_or_none(queue, "queue"))
        return Statement(sql, params, _reader(lambda facts: others.explain_key(key, facts)))

    def schedule(self, name: str) -> Statement[Explanation]:
        """Why a schedule enqueues nothing."""
        name = jsontext.checked_text(name, "name")
        sql = f"select {self.quoted}._why_schedule(%s)::text, null"
        return Statement(sql, (name,), _reader(lambda facts: others.explain_schedule(name, facts)))


def _reader(decide: Callable[[Facts], Explanation]) -> Callable[[list[Row]], Explanation]:
    def read(rows: list[Row]) -> Explanation:
        facts, holders = rows[0]
        given = jsontext.loads(facts)
        given["holders"] = [] if holders is None else jsontext.loads(holders)
        return decide(Facts(given))

    return read
