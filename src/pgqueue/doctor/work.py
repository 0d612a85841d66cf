"""Checks of the jobs themselves: what waits, what runs, what died.

Nothing here counts all jobs. A lane is looked at from its marks on, as claims do, and no further
than a sample: so it is as quick with five million jobs as with five.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import attrs

from pgqueue.doctor.findings import Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import Patient
from pgqueue.words import quantity, span

LANES = 500
"""That are looked at, in the order of their queues' names."""
CLAIMS = 2_000
"""Places of each lane that are looked at for claims, from its bottom on."""
READY = 200
"""Ready jobs of each lane that are looked at, from the oldest on."""
DUE = 1_000
_SHOWN = 5
_LANES = f"""
with lane as (
    select l.queue, l.priority, max(l.head) as head, max(l.floor) as floor, max(l.bottom) as bottom
    from @extschema@.lane l group by l.queue, l.priority order by l.queue, l.priority limit {LANES}
), v as materialized (select @extschema@.clock() as now)
"""
_CLAIMS = f"""
{_LANES}
select j.id, l.queue, j.kind, coalesce(j.worker, ''),
    extract(epoch from v.now - j.claimed_at)::float8,
    extract(epoch from v.now - j.lease_until)::float8, j.attempt, j.max_attempts
from lane l cross join v cross join lateral (
    select j.* from (
        select j.id, j.kind, j.worker, j.claimed_at, j.lease_until, j.attempt, j.max_attempts
        from @extschema@.job j
        where j.queue = l.queue and j.priority = l.priority and j.position is not null
            and j.position >= l.bottom and j.position <= l.head
        order by j.position limit {CLAIMS}
    ) j where j.lease_until is not null
) j
limit {10 * CLAIMS}
"""
_READY = f"""
{_LANES}
select l.queue, j.kind, count(*),
    max(extract(epoch from v.now - greatest(j.run_at, j.enqueued_at)))::float8,
    bool_or(exists (
        select from @extschema@.queue q where q.name in (l.queue, '*') and q.paused_until > v.now
    ))
from lane l cross join v
cross join lateral (
    select j.kind, j.run_at, j.enqueued_at from @extschema@.job j
    where j.queue = l.queue and j.priority = l.priority and j.position is not null
        and j.position >= l.floor and j.lease_until is null
    order by j.position limit {READY}
) j
group by l.queue, j.kind
order by 4 desc
"""
SLEEPERS = """
select s.queue, s.worker, s.kinds from @extschema@.sleeper s
where s.until > @extschema@.clock() limit 10000
"""
_PAUSED = """
select q.name, extract(epoch from v.now - q.paused_at)::float8, coalesce(q.pause_reason, ''),
    (select extract(epoch from v.now - min(j.run_at)) from (
        select j.run_at from @extschema@.lane l cross join lateral (
            select j.run_at from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority and j.position is not null
                and j.position >= l.floor and j.lease_until is null
            order by j.position limit 1
        ) j where q.name in (l.queue, '*')
    ) j)::float8
from @extschema@.queue q, (select @extschema@.clock() as now) v
where q.paused_until > v.now
order by q.paused_at limit 100
"""
_DUE = f"""
select count(*), max(extract(epoch from d.now - d.run_at))::float8 from (
    select j.run_at, v.now from (select @extschema@.clock() as now) v cross join lateral (
        select j.run_at from @extschema@.job j where j.position is null and j.run_at <= v.now
        order by j.run_at limit {DUE + 1}
    ) j
) d
"""
_LAST_UPKEEP = """
select s.last_value / 1e6 - extract(epoch from @extschema@.clock())::float8 from pg_sequences s
where s.schemaname = '@extschema:name@' and s.sequencename = 'promote_floor'
"""
_FLOOR_BEHIND = 5.0
"""Seconds that the promoter's floor stays behind the time at which it is written."""
_ANY = "select exists (select from @extschema@.job j where j.id is not null limit 1)"
_WORN = f"""
select j.kind, count(*) from (
    select j.kind, j.attempt, j.max_attempts from @extschema@.job j
    where j.position is null order by j.run_at limit {DUE}
) j
where j.attempt > 0 and j.attempt >= j.max_attempts - 1
group by j.kind order by 2 desc
"""
_DEAD_PARTS = """
select b.since::text, b.until::text,
    pg_relation_size(b.part) / current_setting('block_size')::bigint
from @extschema@._bounds('dead') b, (select @extschema@.clock() as now) v
where b.since <= v.now and b.until > v.now - interval '1 hour'
"""
_PAGES = 200
"""Of the dead jobs' table, from its end: the last that died."""
_DEAD = """
select a.kind, count(*) from @extschema@.archive_dead a
where a.finished_at >= '{since}' and a.finished_at < '{until}' and a.ctid >= '({page},0)'::tid
    and a.finished_at > @extschema@.clock() - interval '1 hour'
group by a.kind
"""


@attrs.frozen
class Claim:
    """A claimed job."""

    id: int
    queue: str
    kind: str
    worker: str
    held: float
    """Seconds since the claim."""
    overdue: float
    """Seconds since the lease ended; negative while it lasts."""
    attempt: int
    max_attempts: int


async def claims(patient: Patient) -> list[Claim]:
    """The claimed jobs of all lanes, the first places of each."""
    return [Claim(*row) for row in await patient.recall(_CLAIMS)]


def seconds(length: float) -> str:
    """So many seconds, as people say them."""
    return span(timedelta(seconds=max(0.0, length)))


async def upkeep(patient: Patient) -> list[Sign]:
    """Whether anybody does the upkeep: makes due jobs ready, ends expired claims."""
    late = patient.limits.late.total_seconds()
    advice = (
        f"run a worker, or: {patient.command('maintain --every 1s')}; or from pg_cron: "
        f"select * from {patient.quoted}.maintain()"
    )
    signs = []
    due, oldest = (await patient.ask(_DUE))[0]
    if due and oldest >= late:
        many = f"over {DUE:,} jobs are" if due > DUE else f"{quantity(due, 'job')} {_are(due)}"
        seen = f"{many} due and not made ready, the first for {seconds(oldest)}"
        signs.append(critical(seen, advice))
    expired = [claim for claim in await claims(patient) if claim.overdue >= late]
    if expired:
        worst = max(claim.overdue for claim in expired)
        many = "over " if len(expired) >= CLAIMS else ""
        seen = f"{many}{quantity(len(expired), 'claim')} expired and not ended, "
        seen += f"the first {seconds(worst)} ago"
        signs.append(critical(seen, advice))
    if signs:
        return signs
    age = (await patient.ask(_LAST_UPKEEP))[0][0]
    last = None if age is None else -age - _FLOOR_BEHIND
    told = "not known when it was last done" if last is None else f"last done {seconds(last)} ago"
    if last is not None and last >= late and (await patient.ask(_ANY))[0][0]:
        return [warning(f"upkeep was last done {seconds(last)} ago, and there are jobs", advice)]
    return [ok(f"nothing is overdue; {told}")]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


async def leases(patient: Patient) -> list[Sign]:
    """Which jobs run for long."""
    held = [claim for claim in await claims(patient) if claim.overdue < 0]
    held.sort(key=lambda claim: -claim.held)
    most = patient.limits.held.total_seconds()
    signs = [
        notice(
            f"job {claim.id} ({claim.kind}) has run for {seconds(claim.held)}, in worker "
            f"{claim.worker or 'without a name'}",
            f"pgqueue job {claim.id}; if it hangs: pgqueue cancel {claim.id}, and give its handler "
            "a timeout",
        )
        for claim in held[:_SHOWN]
        if claim.held >= most
    ]
    if signs or not held:
        return signs or [ok("no job is claimed")]
    longest = seconds(held[0].held)
    return [ok(f"{quantity(len(held), 'claim')} looked at, the longest for {longest}")]


async def waiting(patient: Patient) -> list[Sign]:
    """Which kinds of jobs wait, and whether anybody is seen who would run them."""
    limit = patient.limits.wait.total_seconds()
    rows = [row for row in await patient.ask(_READY) if not row[4]]
    late = [row for row in rows if row[3] >= limit]
    if not late:
        oldest = f", the oldest for {seconds(rows[0][3])}" if rows else ""
        return [ok(f"{_sampled(sum(row[2] for row in rows))} wait{oldest}")]
    running = [claim for claim in await claims(patient) if claim.overdue < 0]
    idle = await patient.recall(SLEEPERS)
    signs = []
    for queue, kind, count, age, _ in late[:_SHOWN]:
        workers = {c.worker for c in running if c.queue == queue}
        workers |= {name for where, name, _ in idle if where == queue}
        able = {c.worker for c in running if (c.queue, c.kind) == (queue, kind)}
        able |= {n for where, n, kinds in idle if where == queue and (not kinds or kind in kinds)}
        seen = f"{_sampled(count)} of kind {kind} in queue {queue} {_wait(count)}, "
        seen += f"the oldest for {seconds(age)}"
        if not workers:
            advice = f"pgqueue worker MODULE -q {queue}, with a handler for {kind}"
            signs.append(critical(f"{seen}; no worker is seen on this queue", advice))
        elif not able:
            who = f"{quantity(len(workers), 'worker')} seen on this queue, none of which runs it"
            advice = f"register a handler for {kind}, and deploy it"
            signs.append(critical(f"{seen}; {who} now", advice))
        else:
            who = f"{quantity(len(able), 'worker')} seen that run it"
            advice = f"more workers on queue {queue}, or a greater --concurrency"
            signs.append(warning(f"{seen}; {who}", advice))
    return signs


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _sampled(count: int) -> str:
    return f"over {count:,} jobs" if count >= READY else quantity(count, "job")


async def paused(patient: Patient) -> list[Sign]:
    """Which queues are paused while jobs wait in them."""
    rows = await patient.ask(_PAUSED)
    signs = []
    for name, since, reason, wait in rows:
        if wait is None:
            continue
        paused = "everything" if name == "*" else f"queue {name}"
        seen = f"{paused} has been paused for {seconds(since)}"
        seen += f" ({reason})" if reason else ""
        seen += f"; its oldest job has waited for {seconds(wait)}"
        forgotten = since >= patient.limits.paused.total_seconds()
        resume = f"pgqueue resume {'--all' if name == '*' else name}"
        signs.append((warning if forgotten else notice)(seen, resume))
    return signs or [ok(f"{quantity(len(rows), 'paused queue')}, no job waits in one")]


async def workers(patient: Patient) -> list[Sign]:
    """Which workers are seen: idle ones, and those that hold claims."""
    idle = {name for _, name, _ in await patient.recall(SLEEPERS)}
    busy = {claim.worker for claim in await claims(patient) if claim.overdue < 0} - idle
    return [ok(f"{quantity(len(idle), 'idle worker')} seen, and {len(busy):,} with claims")]


async def worn(patient: Patient) -> list[Sign]:
    """Which kinds of jobs are on their last attempt."""
    counts: Counter[str] = Counter(dict(await patient.ask(_WORN)))
    for claim in await claims(patient):
        if 1 < claim.max_attempts <= claim.attempt:
            counts[claim.kind] += 1
    signs = [
        notice(
            f"{quantity(count, 'job')} of kind {kind} {_are(count)} at or before the last attempt",
            f"pgqueue jobs --kind {kind}, and pgqueue job ID shows the errors",
        )
        for kind, count in counts.most_common(_SHOWN)
    ]
    return signs or [ok("no job is on its last attempt")]


async def died(patient: Patient) -> list[Sign]:
    """Which kinds of jobs died within the last hour."""
    counts: Counter[str] = Counter()
    for since, until, pages in await patient.ask(_DEAD_PARTS):
        text = _DEAD.format(since=since, until=until, page=max(0, pages - _PAGES))
        for kind, count in await patient.ask(text):
            counts[kind] += count
    signs = []
    for kind, count in counts.most_common(_SHOWN):
        seen = f"{quantity(count, 'job')} of kind {kind} died within the last hour"
        advice = f"pgqueue jobs --state dead --kind {kind}; mended: pgqueue redrive --kind {kind}"
        signs.append((warning if count >= patient.limits.died else notice)(seen, advice))
    return signs or [ok("no job died within the last hour")]
