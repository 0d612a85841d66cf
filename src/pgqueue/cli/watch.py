"""`watch`: looks for what is wrong, and tells people."""

from __future__ import annotations

import os
from datetime import timedelta

import click

from pgqueue.alerts import (
    DEFAULT_RULES,
    HorizonPinned,
    Notice,
    NoWorkers,
    QueueLatency,
    Rule,
    Sender,
    Sentry,
    Watch,
    Webhook,
)
from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.load import load
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.upkeep import until_signal
from pgqueue.words import quantity, span

WEBHOOK = "PGQUEUE_WEBHOOK"
SENTRY = "SENTRY_DSN"


@click.command(cls=Command)
@click.argument("reference", metavar="[MODULE:NAME]", required=False)
@click.option(
    "--webhook",
    metavar="URL",
    multiple=True,
    help="Post notices there, in Slack's shape; may be repeated. [env: PGQUEUE_WEBHOOK, where it "
    "is not seen in the list of processes]",
)
@click.option("--sentry", is_flag=True, help="Send notices to Sentry, at SENTRY_DSN.")
@click.option(
    "--latency",
    metavar="DURATION",
    type=params.positive_duration,
    default="5m",
    show_default=True,
    help="A queue is late whose oldest ready job has waited for longer.",
)
@click.option(
    "--horizon",
    metavar="DURATION",
    type=params.positive_duration,
    default="1h",
    show_default=True,
    help="A snapshot is old that is older.",
)
@click.option(
    "--serve-queue",
    "queues",
    metavar="QUEUE",
    multiple=True,
    help="A queue that always has to have a worker; may be repeated.",
)
@click.option(
    "--every",
    metavar="DURATION",
    type=params.positive_duration,
    default="10s",
    show_default=True,
    help="Look so often.",
)
@click.option("--once", is_flag=True, help="Look once, tell, and end.")
@pass_session
def watch(
    session: Session,
    reference: str | None,
    *,
    webhook: tuple[str, ...],
    sentry: bool,
    latency: timedelta,
    horizon: timedelta,
    queues: tuple[str, ...],
    every: timedelta,
    once: bool,
) -> None:
    """Look for what is wrong, and tell people, until SIGTERM or Ctrl-C.

    Without a webhook or Sentry, notices are printed. MODULE:NAME is a pgqueue.alerts.Watch of your
    own, with its rules and senders. Any number may run, here and in workers: each notice is told
    once. Failed attempts are known where workers watch, too: `pgqueue worker --observer`.
    """
    session.client().schema_state().check()
    if reference is not None:
        made = load(reference, Watch, "watch")
    else:
        rules = _rules(latency, horizon, queues)
        senders = _senders(session, webhook, sentry=sentry)
        made = Watch(
            session.find(), senders=senders, rules=rules, every=every, schema=session.schema
        )
    if once:
        note(f"told {quantity(made.look(), 'notice')}")
        return
    with until_signal() as over:
        note(f"watching every {span(every)}")
        made.run_until(over)


def _rules(latency: timedelta, horizon: timedelta, queues: tuple[str, ...]) -> list[Rule]:
    chosen: dict[type[Rule], Rule] = {type(rule): rule for rule in DEFAULT_RULES}
    chosen[QueueLatency] = QueueLatency(limit=latency)
    chosen[HorizonPinned] = HorizonPinned(limit=horizon)
    chosen[NoWorkers] = NoWorkers(queues=queues)
    return list(chosen.values())


def _senders(session: Session, urls: tuple[str, ...], *, sentry: bool) -> list[Sender]:
    found = urls or tuple(filter(None, (os.environ.get(WEBHOOK),)))
    senders: list[Sender] = [Webhook(url) for url in found]
    if sentry:
        dsn = os.environ.get(SENTRY)
        if not dsn:
            raise click.UsageError(f"--sentry needs {SENTRY} in the environment")
        made = Sentry()  # says what to install
        import sentry_sdk  # noqa: PLC0415 - the extra `sentry`

        sentry_sdk.init(dsn, default_integrations=False)
        senders.append(made)

    def say(notice: Notice) -> None:
        facts = {
            name: getattr(notice, name)
            for name in ("rule", "key", "firing", "since", "summary", "value")
        }
        output.answer(session.json, facts, notice.title)

    return senders or [say]
