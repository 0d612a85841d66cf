"""What is wrong, and what people are told of it; and the statements that keep account of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.arguments import span_text
from pgqueue.jsontext import storable_text
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.alerts.rules import Rule


@attrs.frozen
class Alarm:
    """One thing that a rule found wrong."""

    key: str
    """What it is about: a queue or a kind, or "" where the rule says it all."""
    summary: str
    """For people; no payloads, no texts of errors."""
    value: float
    """What was over the limit."""


@attrs.frozen(kw_only=True)
class Notice:
    """What somebody is to be told."""

    rule: str
    key: str
    firing: bool
    """Whether it is wrong now; False: it is over."""
    since: datetime
    summary: str
    value: float
    schema: str
    database: str
    token: int = attrs.field(repr=False)

    @property
    def title(self) -> str:
        """A line for people."""
        state = "FIRING" if self.firing else "RESOLVED"
        about = f" {self.key}" if self.key else ""
        return f"[{state}] pgqueue {self.rule}{about}: {self.summary}"


def turn(quoted: str, pause: timedelta) -> Statement[bool]:
    """Whether it is our turn to look, of all who watch."""
    return Statement(
        f"select {quoted}._alerts_turn(%s::interval)", (span_text(pause),), lambda rows: rows[0][0]
    )


def note(
    quoted: str,
    schema: str,
    found: Sequence[tuple[Rule, Alarm]],
    rules: Sequence[Rule],
    lease: timedelta,
) -> Statement[list[Notice]]:
    """Notes what was found; gives what is to be told by us, within `lease`."""
    text = json.dumps(
        [
            {
                "rule": rule.name,
                "key": storable_text(alarm.key),
                "summary": storable_text(alarm.summary),
                "value": alarm.value,
                "cool_down": span_text(rule.cool_down),
                "quiet": span_text(rule.quiet),
            }
            for rule, alarm in found
        ]
    )
    sql = (
        "select rule, key, firing, since, summary, value, token, current_database()::text "
        f"from {quoted}._note_alerts(%s::jsonb, %s::text[], %s::interval)"
    )
    names = sorted({rule.name for rule in rules})
    return Statement(
        sql,
        (text, names, span_text(lease)),
        lambda rows: [
            Notice(
                rule=rule, key=key, firing=firing, since=since, summary=summary, value=value,
                token=token, schema=schema, database=database,
            )
            for rule, key, firing, since, summary, value, token, database in rows
        ],
    )  # fmt: skip


def told(quoted: str, notice: Notice) -> Statement[bool]:
    """Notes that somebody was told; False if our lease was over, and another may have told it."""
    return Statement(
        f"select {quoted}._alert_told(%s, %s, %s, %s)",
        (notice.rule, notice.key, notice.token, notice.firing),
        lambda rows: rows[0][0],
    )
