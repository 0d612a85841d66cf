"""A Flask application that enqueues in a SQLAlchemy session's transaction, and shows the result.

Needs flask and sqlalchemy. Make its tables with `flask --app flask_app set-up`, serve it with
`flask --app flask_app run`, and run its jobs with `pgqueue worker flask_app -q mail`. Run as a
script it makes a few requests to itself, and works until no job is ready.
"""

import psycopg
import sqlalchemy as sa
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from sqlalchemy import orm

import pgqueue

client = pgqueue.Client()
# Over psycopg 3, to the same database: usually the URL begins with postgresql+psycopg://
engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(client.dsn))
handlers = pgqueue.Handlers()
app = Flask(__name__)


class Base(orm.DeclarativeBase):
    """The application's tables."""


class User(Base):
    """Somebody who signed up."""

    __tablename__ = "example_user"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str] = orm.mapped_column(unique=True)


@handlers.register("email.welcome", queue="mail")
def welcome(job: pgqueue.Job) -> dict[str, str]:
    """Send a mail; what is returned is the job's result."""
    return {"sent_to": job.payload["email"]}


@app.post("/users")
def sign_up() -> ResponseReturnValue:
    """Store a user and enqueue the welcome mail: both, or neither if the address is taken."""
    email = request.get_json()["email"]
    try:
        with orm.Session(engine) as session, session.begin():
            user = User(email=email)
            session.add(user)
            queued = welcome.enqueue(client, {"email": email}, conn=session)
            session.flush()  # a taken address shows here, after the enqueue: it is rolled back too
            return {"user": user.id, "job": queued.id}, 202
    except sa.exc.IntegrityError:
        abort(409, "this address has signed up already")


@app.get("/jobs/<int:job_id>")
def show(job_id: int) -> ResponseReturnValue:
    """Say how a job is doing."""
    try:
        job = client.get(job_id)
    except pgqueue.JobNotFound:
        abort(404, "there is no such job, or it was finished long ago")
    return {"state": job.state, "attempt": job.attempt, "result": job.result}


@app.cli.command()
def set_up() -> None:
    """Make the tables that are missing."""
    client.migrate()
    Base.metadata.create_all(engine)


def main() -> None:
    """Sign up twice with one address, work, and look at the job."""
    Base.metadata.drop_all(engine)
    app.test_cli_runner().invoke(args=["set-up"])
    browser = app.test_client()
    first = browser.post("/users", json={"email": "ada@example.org"})
    second = browser.post("/users", json={"email": "ada@example.org"})
    print("sign up:", first.status_code, "again:", second.status_code)
    print("jobs waiting:", len(client.list(queue="mail", state="ready")))
    job_id = first.get_json()["job"]
    print("before:", browser.get(f"/jobs/{job_id}").get_json())
    pgqueue.Worker(client, handlers, queues="mail").run(until_idle=True)
    print("after: ", browser.get(f"/jobs/{job_id}").get_json())


if __name__ == "__main__":
    with client:
        main()
    engine.dispose()
