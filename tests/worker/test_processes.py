"""Worker processes and the signals they get."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from pgqueue import Client, ConfigurationError, Constant, Handlers, Worker

from .helpers import Database, Process, state, until

Launch = Callable[[str], Process]

ONE = """
@handlers.register("slow")
async def slow(job):
    say("started", job.attempt)
    await asyncio.sleep(job.payload)
    say("ended")

@handlers.register("sync")
def sync(job):
    say("started", job.attempt)
    time.sleep(job.payload)
    say("ended")

@handlers.register("quick")
def quick(job):
    say("quick", os.getpid())

worker = pgqueue.Worker(
    dsn, handlers, lease=timedelta(seconds=1), poll_interval=timedelta(seconds=0.1),
    shutdown_timeout=timedelta(seconds=float(os.environ.get("TIMEOUT", "10"))),
    processes=int(os.environ.get("PROCESSES", "1")), concurrency=4,
)
say("ready")
code = worker.run()
say("code", code)
sys.exit(code)
"""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes."""
    monkeypatch.setenv("PROCESSES", "2")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short shutdown timeout."""
    monkeypatch.setenv("TIMEOUT", "0.5")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - a device
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(process: Process) -> set[int]:
    """The worker processes under a parent."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as file:  # noqa: PTH123
        return {int(word) for word in file.read().split()}


def test_job_of_a_killed_worker_runs_again_after_its_lease(
    client: Client, launch: Launch, database: Database
) -> None:
    """SIGKILL in the middle of a job: another worker takes over."""
    first = launch(ONE)
    job = client.enqueue("slow", 30).id
    first.wait_for("started 1")
    first.send(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL
    assert state(client, job) == "claimed"
    database.query("update job set payload = '0', backoff = '{\"delays\": [0.01]}'")
    second = launch(ONE)
    second.wait_for("started 2")
    until(lambda: state(client, job) == "succeeded")
    assert client.get(job).history[0].outcome == "expired"
    second.send(signal.SIGTERM)
    assert second.end() == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_around_the_commit_makes_the_effect_happen_once(
    client: Client, launch: Launch, database: Database, when: str
) -> None:
    """Killed before it, the handler's writes are undone and done anew; after it, they stand."""
    database.query("create table public.effect (job bigint)")
    script = """
    @handlers.register("a")
    def handler(job):
        with psycopg.connect(dsn) as conn:
            conn.execute("insert into public.effect values (%s)", [job.id])
            job.ack(conn=conn)
            if WHEN == "before" and job.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        if WHEN == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    worker = pgqueue.Worker(dsn, handlers, lease=timedelta(seconds=0.5))
    sys.exit(worker.run())
    """.replace("WHEN", repr(when))
    try:
        job = client.enqueue("a", retry=Constant(timedelta(milliseconds=10))).id
        first = launch(script)
        assert first.end() == -signal.SIGKILL
        database.query("delete from sleeper")
        second = launch(script)
        until(lambda: state(client, job) == "succeeded" and database.query("table sleeper"))
        second.send(signal.SIGTERM)
        assert second.end() == 0
        assert client.get(job).attempt == (2 if when == "before" else 1)
        assert database.query("select job from public.effect") == [(job,)]
    finally:
        database.query("drop table public.effect")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["slow", "sync"])
def test_first_signal_drains(
    client: Client, launch: Launch, kind: str, number: signal.Signals
) -> None:
    """The running handler finishes, and the exit code is 0."""
    process = launch(ONE)
    job = client.enqueue(kind, 0.5).id
    process.wait_for("started")
    process.send(number)
    assert process.end() == 0
    assert process.lines[-2:] == ["ended", "code 0"]
    assert state(client, job) == "succeeded"


def test_second_signal_hurries(client: Client, launch: Launch) -> None:
    """The handler is cancelled, its job released at once, and the exit code is 1."""
    process = launch(ONE)
    job = client.enqueue("slow", 30).id
    process.wait_for("started")
    process.send(signal.SIGTERM)
    until(lambda: state(client, client.enqueue("quick").id) == "ready")
    process.send(signal.SIGTERM)
    assert process.end() == 1
    assert (state(client, job), client.get(job).attempt) == ("ready", 0)


@pytest.mark.usefixtures("short")
def test_handler_that_outlasts_the_timeout_is_released(client: Client, launch: Launch) -> None:
    """A sync one cannot be stopped, but its process ends, and its job is ready for others."""
    process = launch(ONE)
    job = client.enqueue("sync", 60).id
    process.wait_for("started")
    process.send(signal.SIGTERM)
    assert process.end() == 1
    assert (state(client, job), client.get(job).attempt) == ("ready", 0)
    assert process.lines[-1] == "code 1"


def test_signal_while_idle_ends_at_once(client: Client, launch: Launch, database: Database) -> None:
    """A worker that sleeps is woken by it."""
    process = launch(ONE)
    until(lambda: database.query("select 1 from sleeper"))
    process.send(signal.SIGTERM)
    assert process.end(5) == 0
    assert database.query("select 1 from sleeper") == []
    del client


def test_signals_under_load_lose_nothing(
    client: Client, launch: Launch, database: Database
) -> None:
    """During claims and acks: what was run is done, and all the rest is ready."""
    client.enqueue_many([("quick", None)] * 3_000)
    process = launch(ONE)
    process.wait_for("quick", count=500)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    ran = len([line for line in process.lines if line.startswith("quick")])
    assert database.query("select 1 from job where lease_until is not null") == []
    assert database.query("select count(*) from archive") == [(ran,)]


def test_handlers_of_before_come_back_after_the_run(launch: Launch) -> None:
    """An app's own handling of signals is not touched for good."""
    process = launch(
        """
        handlers.register("a")(lambda job: None)
        signal.signal(signal.SIGTERM, lambda *_: say("mine"))
        before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started us with &
        worker = pgqueue.Worker(dsn, handlers)
        worker.run(until_idle=True)
        os.kill(os.getpid(), signal.SIGTERM)
        say(signal.getsignal(signal.SIGINT) is before)
        """
    )
    assert process.end() == 0
    assert process.lines == ["mine", "True"]


@pytest.mark.usefixtures("two")
def test_several_processes_share_the_work(client: Client, launch: Launch) -> None:
    """Each runs some; one signal to the parent ends them all."""
    process = launch(ONE)
    until(lambda: len(children(process)) == 2)

    def all_at_work() -> bool:
        client.enqueue_many([("quick", None)] * 20)
        return len({line for line in process.lines if line.startswith("quick")}) == 2

    until(all_at_work)
    process.send(signal.SIGTERM)
    assert process.end() == 0


@pytest.mark.usefixtures("two")
def test_interrupt_from_the_terminal_drains_all_processes(client: Client, launch: Launch) -> None:
    """Ctrl-C reaches every process of the group, and counts once for each."""
    process = launch(ONE)
    jobs = [client.enqueue("slow", 0.5).id for _ in range(4)]
    process.wait_for("started", count=4)
    process.send_to_group(signal.SIGINT)
    assert process.end() == 0
    assert {state(client, job) for job in jobs} == {"succeeded"}


@pytest.mark.usefixtures("two", "short")
def test_worst_exit_code_of_the_processes_counts(client: Client, launch: Launch) -> None:
    """One had to release a job."""
    process = launch(ONE)
    job = client.enqueue("slow", 30).id
    process.wait_for("started")
    process.send(signal.SIGTERM)
    assert process.end() == 1
    assert state(client, job) == "ready"


@pytest.mark.usefixtures("two")
def test_second_signal_is_passed_on(client: Client, launch: Launch) -> None:
    """The children hurry, too."""
    process = launch(ONE)
    job = client.enqueue("slow", 30).id
    process.wait_for("started")
    process.send(signal.SIGTERM)
    process.send(signal.SIGINT)
    process.send(signal.SIGINT)
    assert process.end(5) == 1
    assert state(client, job) == "ready"


@pytest.mark.usefixtures("two")
def test_killed_process_is_replaced(client: Client, launch: Launch) -> None:
    """The parent starts another, which works."""
    process = launch(ONE)
    until(lambda: len(children(process)) == 2)
    victim, *_ = before = children(process)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(children(process) - before) == 1)
    job = client.enqueue("quick").id
    until(lambda: state(client, job) == "succeeded")
    assert any("another starts" in line for line in process.errors)
    process.send(signal.SIGTERM)
    assert process.end() == 0


@pytest.mark.usefixtures("two")
def test_processes_end_with_their_parent(client: Client, launch: Launch) -> None:
    """Killed, it cannot tell them; they notice, and give back what they hold."""
    process = launch(ONE)
    until(lambda: len(children(process)) == 2)
    mine = children(process)
    job = client.enqueue("slow", 0.5).id
    process.wait_for("started")
    process.send(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in mine))
    assert state(client, job) == "succeeded"


def test_drain_in_several_processes(client: Client, launch: Launch) -> None:
    """Each ends when it is idle, and so does the parent; nothing is started anew."""
    client.enqueue_many([("a", None)] * 50)
    process = launch(
        """
        handlers.register("a")(lambda job: time.sleep(0.005))
        worker = pgqueue.Worker(dsn, handlers, processes=2)
        sys.exit(worker.run(until_idle=True))
        """
    )
    assert process.end() == 0
    assert {str(job.state) for job in client.list()} == {"succeeded"}


def test_process_that_is_killed_during_a_drain_shows_in_the_exit_code(
    client: Client, launch: Launch
) -> None:
    """It is not replaced, but the parent's code is 1."""
    client.enqueue("a")
    process = launch(
        """
        handlers.register("a")(lambda job: os.kill(os.getpid(), signal.SIGKILL))
        worker = pgqueue.Worker(dsn, handlers, processes=2)
        sys.exit(worker.run(until_idle=True))
        """
    )
    assert process.end() == 1


def test_process_that_fails_is_logged_and_replaced_until_stopped(
    client: Client, launch: Launch
) -> None:
    """Its error is in the log; the pauses between them grow."""
    process = launch(
        """
        logging.basicConfig()
        handlers.register("a")(lambda job: None)
        from pgqueue.worker import processes, worker as module
        processes.FIRST_PAUSE = 0.02
        def fail(*args, **options):
            raise RuntimeError("unforeseen")
        module.Engine.run = fail
        sys.exit(pgqueue.Worker(dsn, handlers, processes=2).run())
        """
    )
    until(lambda: len([line for line in process.errors if "another starts" in line]) >= 4)
    process.send(signal.SIGTERM)
    assert process.end() in (0, 1)
    assert any("RuntimeError: unforeseen" in line for line in process.errors)
    del client


def test_process_that_does_not_end_is_killed(
    client: Client, launch: Launch, database: Database
) -> None:
    """It is stuck beyond help: the parent waits for the timeout and a little, and kills it."""
    process = launch(
        """
        from pgqueue.worker import processes
        processes.KILL_SECONDS = 0.2
        @handlers.register("a")
        async def stuck(job):
            say("stuck")
            time.sleep(60)
        worker = pgqueue.Worker(
            dsn, handlers, processes=2, shutdown_timeout=timedelta(seconds=0.2),
        )
        sys.exit(worker.run())
        """
    )
    job = client.enqueue("a").id
    process.wait_for("stuck")
    process.send(signal.SIGTERM)
    assert process.end(5) == 1
    assert state(client, job) == "claimed"
    del database


def test_stop_ends_several_processes_from_a_thread(client: Client, launch: Launch) -> None:
    """Worker.stop does what a signal does; before run, it ends that at once."""
    process = launch(
        """
        handlers.register("a")(lambda job: say("ran"))
        worker = pgqueue.Worker(dsn, handlers, processes=2)
        worker.stop()
        say("first", worker.run())
        runner = threading.Thread(target=lambda: say("second", worker.run()))
        runner.start()
        while "ran" != sys.stdin.readline().strip() and not os.path.exists(dsn):
            time.sleep(0.5)
            break
        worker.stop()
        runner.join()
        say(worker.health())
        """
    )
    client.enqueue("a")
    assert process.end() == 0
    assert [line for line in process.lines if line != "ran"] == ["first 0", "second 0", "None"]


def test_open_pool_of_before_does_not_harm_the_processes(client: Client, launch: Launch) -> None:
    """A client that was used before the fork works on both sides of it."""
    process = launch(
        """
        client = pgqueue.Client(dsn)
        client.enqueue("a", 1)
        @handlers.register("a")
        def handler(job):
            if job.payload < 5:
                client.enqueue("a", job.payload + 1)
        code = pgqueue.Worker(client, handlers, processes=2).run(until_idle=True)
        client.enqueue("a", 9)
        client.close()
        sys.exit(code)
        """
    )
    assert process.end() == 0
    states = [str(job.state) for job in client.list()]
    assert states.count("succeeded") + states.count("ready") == 6


def test_system_without_fork_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do instead."""
    handlers = Handlers()
    handlers.register("a")(lambda _: None)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ConfigurationError, match="start several workers"):
        Worker(client, handlers, processes=2).run()


@pytest.mark.usefixtures("two")
def test_each_process_is_listed_as_a_worker(client: Client, launch: Launch) -> None:
    """By its own pid; one that was killed stays in the list, since it said no goodbye."""
    process = launch(ONE)
    until(lambda: len(client.workers()) == 2)
    listed = {worker.pid for worker in client.workers()}
    assert process.pid not in listed
    killed = min(listed)
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(client.workers()) == 3)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert {worker.pid for worker in client.workers()} == {killed}
