"""What a handler may return to say how the attempt ended, other than well.

Outcomes are returned, not raised, so that a handler's broad `except Exception` cannot swallow them.
Any other value that a handler returns, None included, is the job's result: the job succeeded.
An exception is a fail: the job is tried again by its retry policy.
"""

from __future__ import annotations

from datetime import timedelta

import attrs

from pgqueue.errors import ConfigurationError


def _not_negative(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    if value is not None and (not isinstance(value, timedelta) or value < timedelta(0)):
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a timedelta, zero or more")


@attrs.frozen
class Retry:
    """This attempt failed; try again after `delay`, or by the retry policy where it is None.

    It counts as an attempt: a job whose attempts are used up is dead.
    """

    delay: timedelta | None = attrs.field(default=None, validator=_not_negative)
    reason: str = ""


@attrs.frozen
class Snooze:
    """Put the job back for `delay` without counting the attempt."""

    delay: timedelta = attrs.field(validator=_not_negative)


@attrs.frozen
class Skip:
    """The job is finished as skipped: there was nothing to do."""

    reason: str = ""


@attrs.frozen
class Cancel:
    """The job is finished as cancelled: it cannot succeed, and trying again would not help."""

    reason: str = ""
