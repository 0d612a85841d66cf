"""SQL that asks which sessions hold old snapshots or have transactions open."""

from __future__ import annotations

HOLDERS = """
select a.pid, coalesce(a.application_name, '') as program,
    coalesce(quote_ident(a.usename), '') as username, a.state,
    left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100) as query,
    extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
    greatest(age(a.backend_xmin), age(a.backend_xid)) as xids, a.backend_xid is not null as writes
from pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid()
    and (a.backend_xmin is not null or a.backend_xid is not null)
    and coalesce(a.backend_type, '') not in ('autovacuum worker', 'walsender')
    and coalesce(a.query, '') !~* '^\\s*vacuum'
order by 6 desc nulls last, 7 desc
limit 100
"""
"""Which rows vacuum may remove from a database, its own sessions decide, and standbys' feedback.

Times and queries of other roles' sessions are null without pg_monitor.
"""
