"""`export`, `import` and `take-over`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import Client

from .conftest import Run

MESSAGES = """
    create schema pgmq;
    create table pgmq.q_orders (
        msg_id bigint primary key generated always as identity, read_ct int not null default 0,
        enqueued_at timestamptz not null default now(), vt timestamptz not null,
        message jsonb, headers jsonb
    );
    insert into pgmq.q_orders (vt, message) select now(), '{"kind": "ship"}' from generate_series(1, 3);
"""  # noqa: E501 - SQL


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """With three jobs in the queue mail."""
    pgqueue_client.enqueue_many([("a", n) for n in range(3)], queue="mail")
    return pgqueue_client


@pytest.fixture
def conn(pgqueue_dsn: str) -> Iterator[psycopg.Connection]:
    """The database, with a queue of PGMQ's shape in it."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(MESSAGES)
        yield conn


def test_jobs_go_into_a_file_and_back(run: Run, client: Client, tmp_path: Path) -> None:
    """And say so; the second import is refused."""
    file = tmp_path / "mail.jsonl"
    assert run("export", "mail", file, "--dry-run").out == "3 waiting jobs in queue 'mail'\n"
    assert not file.exists()
    assert run("export", "mail", file, "--drain", "--yes").out == f"3 jobs moved to {file}\n"
    assert client.stats()[0].ready == 0
    assert run("import", file, "-q", "post").out == "3 jobs enqueued\n"
    again = run("import", file)
    assert (again.code, "imported already" in again.err) == (2, True)
    assert run("import", file, "--again", "--json").json["enqueued"] == 3
    assert [job.payload for job in client.claim("post", limit=9)] == [0, 1, 2]


def test_copy_leaves_the_queue(run: Run, client: Client, tmp_path: Path) -> None:
    """As JSON."""
    file = tmp_path / "f"
    assert run("export", "mail", file, "--json").json == {
        "queue": "mail", "kind": None, "file": str(file), "exported": 3, "drained": False,
    }  # fmt: skip
    assert client.stats()[0].ready == 3


def test_drain_asks_first_and_no_file_is_overwritten(
    run: Run, client: Client, tmp_path: Path
) -> None:
    """Without a terminal it wants --yes."""
    file = tmp_path / "f"
    refused = run("export", "mail", file, "--drain")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    file.touch()
    refused = run("export", "mail", file, "--drain", "--yes")
    assert (refused.code, "exists already" in refused.err) == (2, True)
    assert client.stats()[0].ready == 3


def test_nothing_to_export_is_the_answer_no(run: Run, tmp_path: Path) -> None:
    """Exit code 1."""
    assert run("export", "mail", tmp_path / "f").code == 1


def test_held_keys_are_said(run: Run, client: Client, tmp_path: Path) -> None:
    """Those jobs are not added."""
    client.enqueue("b", queue="mail", dedupe_key="k")
    run("export", "mail", tmp_path / "f")
    done = run("import", tmp_path / "f")
    assert done.out == "3 jobs enqueued; 1 not added, because their dedupe keys are held\n"


def test_other_queue_is_looked_at_and_taken_over(
    run: Run, client: Client, conn: psycopg.Connection
) -> None:
    """It is shown first what would be moved."""
    given = ("take-over", "pgmq", "orders", "--kind-key", "kind", "-q", "shop")
    looked = run(*given, "--dry-run")
    assert "3 waiting jobs in pgmq; 0 that run stay there" in looked.out
    assert "ship" in looked.out
    assert run(*given, "--dry-run", "--json").json["waiting"] == 3
    assert run(*given).code == 2  # nobody to ask
    assert run(*given, "--yes").out == "3 jobs enqueued\n"
    assert run(*given, "--yes").code == 1
    assert conn.execute("select count(*) from pgmq.q_orders").fetchone() == (0,)
    assert client.list(queue="shop")[0].kind == "ship"


def test_job_that_does_not_fit_keeps_all_from_being_moved(
    run: Run, conn: psycopg.Connection
) -> None:
    """The dry run says what is in the way, and has exit code 1."""
    conn.execute("update pgmq.q_orders set message = '{}' where msg_id = 2")
    given = ("take-over", "pgmq", "orders", "--kind-key", "kind")
    looked = run(*given, "--dry-run")
    assert (looked.code, "in the way of 1 job: it has no kind" in looked.out) == (1, True)
    refused = run(*given, "--yes")
    assert (refused.code, "1 job cannot be stored: it has no kind" in refused.err) == (2, True)
    assert conn.execute("select count(*) from pgmq.q_orders").fetchone() == (3,)


def test_source_without_tables_is_a_usage_error(run: Run) -> None:
    """Which says where to look."""
    refused = run("take-over", "procrastinate", "--yes")
    assert (refused.code, "there is no table of procrastinate" in refused.err) == (2, True)
