"""The guards of the SQL, taken out one by one: the check behind each must fail then.

A check that holds without its guard would guard nothing. Some guards stand twice; then one of the
two suffices, and both have to go before the check may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import psycopg
import pytest
from tests.faults import guards
from tests.faults.harness.waiting import TooLate

from pgqueue import migrate

pytestmark = pytest.mark.faults

Check: TypeAlias = Callable[[str], None]
Edit: TypeAlias = tuple[str, str]
"""Text of the functions, found once, and what is to stand there instead."""

CHECKS: Mapping[str, Check] = {
    "fencing": guards.check_fencing,
    "claims apart": guards.check_claims_are_apart,
    "limit": guards.check_claim_takes_no_more,
    **{f"lock order of {end}": partial(guards.check_lock_order, end) for end in guards.BULK},
    "dedupe": guards.check_dedupe,
}

# (a) The fencing: the token beside the id.
TOKENS: Mapping[str, Edit] = {
    "finish": ("and j.token = o.token and j.lease", "and j.lease"),
    "put back": (
        "and j.token = c.token and j.lease_until is not null\n        order by j.id",
        "and j.lease_until is not null\n        order by j.id",
    ),
    "extend": (
        "and j.token = c.token and j.lease_until is not null\n    returning",
        "and j.lease_until is not null\n    returning",
    ),
}

# (b) Nobody else's claim: locked rows are skipped, and their state is looked at again. Rows are
# found by their places, and one that changed has another: a third guard, though not in every
# version of Postgres. So these find them by id.
BY_ID: Sequence[Edit] = (
    ("v_rows tid[]", "v_rows bigint[]"),
    ("array_agg(c.ctid)", "array_agg(c.id)"),
    ("select j.ctid, j.position > l.head", "select j.id, j.position > l.head"),
    ("select j.ctid, j.position from", "select j.id, j.position from"),
    ("where j.ctid = any (v_rows)\n        group", "where j.id = any (v_rows)\n        group"),
    ("where j.ctid = any (v_rows) and", "where j.id = any (v_rows) and"),
)
UNCHECKED: Edit = ("any (v_rows) and j.lease_until is null\n", "any (v_rows)\n")
UNLOCKED: Edit = ("limit claim.count\n            for update skip locked", "limit claim.count")

# (c) The lock order, which the planner often keeps by chance, but not in every plan.
ACK_UNSORTED: Edit = ("        order by c.id\n    ), ended", "    ), ended")
FAIL_UNSORTED: Edit = ("        order by j.id\n        for update of j", "        for update of j")
EXTEND_UNSORTED: Edit = (
    "(extend.ids, extend.tokens) c (id, token) order by c.id",
    "(extend.ids, extend.tokens) c (id, token)",
)

# (d) The limit, taken once: here the subquery is run again for each row it is compared with.
IN_SUBQUERY: Edit = (
    "where j.ctid = any (v_rows) and j.lease_until is null\n",
    """where j.ctid in (
        select k.ctid from @extschema@.job k
        where k.queue = any (claim.queues) and k.position is not null and k.lease_until is null
        order by k.position limit claim.count
        for update skip locked
    )
""",
)

# (e) Dedupe by a unique index: here by looking first.
LOOK_FIRST: Edit = (
    "on conflict (dedupe_hash) where dedupe_hash is not null do nothing",
    "where not exists (select from @extschema@.job j where j.dedupe_hash = new.dedupe_hash)",
)
NOT_UNIQUE = (
    "drop index pgqueue.job_dedupe; "
    "create index job_dedupe on pgqueue.job (dedupe_hash) where dedupe_hash is not null"
)


@attrs.frozen
class Mutant:
    """A schema without a guard."""

    check: str
    """The check that has to see."""
    edits: Sequence[Edit]
    sql: str = ""


KILLED: Mapping[str, Mutant] = {
    **{f"no token: {name}": Mutant("fencing", [edit]) for name, edit in TOKENS.items()},
    "neither lock nor recheck": Mutant("claims apart", [*BY_ID, UNLOCKED, UNCHECKED]),
    "unsorted ack": Mutant("lock order of ack", [ACK_UNSORTED]),
    "unsorted fail": Mutant("lock order of fail", [FAIL_UNSORTED]),
    "unsorted extend": Mutant("lock order of extend", [EXTEND_UNSORTED]),
    "limit in a subquery": Mutant("limit", [IN_SUBQUERY]),
    "dedupe by a look": Mutant("dedupe", [LOOK_FIRST], NOT_UNIQUE),
}
SPARED: Mapping[str, Mutant] = {
    "no recheck, but a lock": Mutant("claims apart", [*BY_ID, UNCHECKED]),
    "no lock, but a recheck": Mutant("claims apart", [*BY_ID, UNLOCKED]),
}


def mutated(dsn: str, mutant: Mutant) -> str:
    """The same database, with the functions installed once more as the edits make them."""
    text = migrate.functions()
    for old, new in mutant.edits:
        assert text.count(old) == 1, f"the functions changed; find the guard again: {old!r}"
        text = text.replace(old, new)
    with psycopg.connect(dsn) as conn:
        conn.execute("set local check_function_bodies = off")
        conn.execute(migrate.render(text, "pgqueue").encode())
        conn.execute(mutant.sql.encode())
    return dsn


@pytest.mark.parametrize("check", CHECKS)
def test_check_holds(pgqueue_dsn: str, check: str) -> None:
    """On the schema as it is."""
    CHECKS[check](pgqueue_dsn)


@pytest.mark.parametrize("name", KILLED)
def test_check_fails_without_its_guard(pgqueue_dsn: str, name: str) -> None:
    """By what it asserts, not by an error of the mutant's."""
    mutant = KILLED[name]
    with pytest.raises(AssertionError) as failure:
        CHECKS[mutant.check](mutated(pgqueue_dsn, mutant))
    assert not isinstance(failure.value, TooLate)
    assert failure.traceback[-1].path == Path(guards.__file__)


@pytest.mark.parametrize("name", SPARED)
def test_second_guard_suffices(pgqueue_dsn: str, name: str) -> None:
    """Where a guard stands twice, the check holds with the other one."""
    mutant = SPARED[name]
    CHECKS[mutant.check](mutated(pgqueue_dsn, mutant))
