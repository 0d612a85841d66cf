"""Checks of schedules: whether somebody fires them, and what becomes of their slots.

Nothing here reads all schedules. Those that are due first stand first in the index, and the slots
that went wrong have one of their own.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from pgqueue.doctor import work
from pgqueue.doctor.findings import Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import Patient
from pgqueue.words import quantity, span

SAMPLE = 1_000
"""Schedules that are looked at, those that are due first; and slots that went wrong, the last."""
_SHOWN = 5
_OVERDUE = f"""
select count(*), (array_agg(d.name order by d.next_run_at))[1],
    max(extract(epoch from d.now - d.next_run_at))::float8
from (
    select s.name, s.next_run_at, v.now
    from (select @extschema@.clock() as now) v cross join lateral (
        select s.name, s.next_run_at from @extschema@.schedule s where s.next_run_at <= v.now
        order by s.next_run_at limit {SAMPLE + 1}
    ) s
) d
"""
_NEXT = """
select extract(epoch from min(s.next_run_at) - @extschema@.clock())::float8
from (
    select s.next_run_at from @extschema@.schedule s
    where s.next_run_at is not null order by s.next_run_at limit 1
) s
"""
_LAST_TICK = """
select extract(epoch from @extschema@.clock())::float8 - s.last_value / 1e6 from pg_sequences s
where s.schemaname = '@extschema:name@' and s.sequencename = 'schedule_rescan'
"""
"""Seconds since ticks were to look at all schedules again; negative: they will."""
_KINDS = f"""
select s.queue, s.kind, count(*), min(s.name),
    exists (select from @extschema@.poke p where p.queue = s.queue)
from (
    select s.queue, s.kind, s.name from @extschema@.schedule s
    where s.next_run_at is not null order by s.next_run_at limit {SAMPLE}
) s
group by s.queue, s.kind order by 3 desc, s.queue, s.kind
"""
_WRONG = f"""
select s.name, r.outcome, r.count, extract(epoch from v.now - r.last)::float8, r.error,
    r.outcome = l.outcome
from (select @extschema@.clock() as now) v cross join lateral (
    select w.schedule_id, w.outcome, count(*), max(w.fired_at) as last,
        coalesce((array_agg(w.error order by w.slot desc))[1], '') as error
    from (
        select * from @extschema@.schedule_run w
        where w.outcome in ('failed', 'missed') and w.fired_at > v.now - interval '1 day'
        order by w.fired_at desc limit {SAMPLE}
    ) w
    group by w.schedule_id, w.outcome
) r
join @extschema@.schedule s on s.id = r.schedule_id
cross join lateral (
    select l.outcome from @extschema@.schedule_run l
    where l.schedule_id = s.id and l.outcome <> 'manual' order by l.slot desc limit 1
) l
order by 6 desc, 3 desc, s.name
"""


async def overdue(patient: Patient) -> list[Sign]:
    """Whether slots are fired in time."""
    count, first, age = (await patient.ask(_OVERDUE))[0]
    if not count or age < patient.limits.overdue.total_seconds():
        left = (await patient.ask(_NEXT))[0][0]
        if left is None:
            return [ok("no schedule has a slot to come")]
        return [ok(f"none is overdue; the next slot {_coming(left)}")]
    many = f"over {SAMPLE:,} schedules" if count > SAMPLE else quantity(count, "schedule")
    many += " is" if count == 1 else " are"
    seen = f"{many} overdue, the first ({first}) for {work.seconds(age)}"
    since = (await patient.ask(_LAST_TICK))[0][0]
    if since is None or since >= patient.limits.overdue.total_seconds():
        advice = (
            "nobody fires schedules: run a worker, or: "
            f"{patient.command('scheduler')}; or have pg_cron do it: "
            f"{patient.command('cron install')}"
        )
        return [critical(seen, advice)]
    advice = (
        "somebody fires schedules, but not these, or too few: who locks their rows? select pid, "
        "state, xact_start, query from pg_stat_activity where pid in (select l.pid from pg_locks l "
        f"where l.relation = '{patient.quoted}.schedule'::regclass); else run more of: "
        + patient.command("scheduler")
    )
    return [critical(seen, advice)]


def _coming(left: float) -> str:
    return f"comes in {span(timedelta(seconds=left))}" if left > 0 else "is due now"


async def kinds(patient: Patient) -> list[Sign]:
    """Whether the workers that are seen run what schedules enqueue."""
    rows = await patient.ask(_KINDS)
    idle: dict[str, list[list[str] | None]] = defaultdict(list)
    names = set()
    for queue, name, able in await patient.recall(work.SLEEPERS):
        idle[queue].append(able)
        names.add((queue, name))
    running = [claim for claim in await work.claims(patient) if claim.overdue < 0]
    runs = {(claim.queue, claim.kind) for claim in running}
    # What else these run, nobody knows.
    busy = {claim.queue for claim in running if (claim.queue, claim.worker) not in names}
    signs = []
    for queue, kind, count, first, poked in rows:
        able = (queue, kind) in runs or any(not each or kind in each for each in idle[queue])
        if able or poked or queue in busy:
            continue
        seen = f"{_named(count, first)} of kind {kind} in queue {queue}"
        if idle[queue]:
            workers = quantity(len(idle[queue]), "worker")
            advice = f"register a handler for {kind}, and deploy it; or: pgqueue schedule disable"
            seen += f"; {workers} seen on this queue, none of which runs it"
            signs.append(warning(seen, f"{advice} {first}"))
        else:
            advice = f"pgqueue worker MODULE -q {queue}, with a handler for {kind}"
            signs.append(notice(f"{seen}; no worker is seen on this queue", advice))
    return signs[:_SHOWN] or [ok(f"{quantity(len(rows), 'kind')} of schedules looked at")]


def _named(count: int, first: str) -> str:
    if count == 1:
        return f"schedule {first} is"
    return f"{count:,} schedules ({first} and others) are"


async def slots(patient: Patient) -> list[Sign]:
    """Which slots failed or were missed within the last day."""
    signs = []
    for name, outcome, count, age, error, still in (await patient.ask(_WRONG))[:_SHOWN]:
        went = outcome if outcome == "failed" else "was missed" if count == 1 else "were missed"
        seen = f"{quantity(count, 'slot')} of schedule {name} {went} within the last day, "
        seen += f"the last {work.seconds(age)} ago"
        seen += f": {error}" if error else ""
        if outcome == "failed":
            advice = f"{patient.command('schedule show')} {name}; correct it, and then: "
            advice += f"{patient.command('schedule run')} {name}"
        else:
            advice = (
                "nobody fired them in time, and catch_up is 0: run a worker all the time, or two "
                f"of: {patient.command('scheduler')}; or give it catch_up or a longer grace"
            )
        # Later slots of the schedule went well.
        signs.append(warning(seen, advice) if still else notice(seen, advice))
    return signs or [ok("none failed or was missed within the last day")]
