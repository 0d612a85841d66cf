"""A Django project of one file whose jobs are processed when POST /api/jobs/run is called.

Needs django. Run as a script it makes a few requests to itself.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import Client as Browser
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

import pgqueue
from pgqueue.endpoint import Endpoint

SECRET = os.environ.get("JOBS_SECRET") or secrets.token_urlsafe(32)
handlers = pgqueue.Handlers()


@handlers.middleware
@contextmanager
def close_connections(_: pgqueue.Job) -> Iterator[None]:
    """Django's connections belong to a thread, and those of handlers end with their poke."""
    try:
        yield
    finally:
        connections.close_all()


@handlers.register("report.build", queue="django")
def build(job: pgqueue.Job) -> str:
    """Build a report; what is returned is the job's result."""
    return f"report of {job.payload['month']}"


endpoint = Endpoint(None, handlers, secrets=SECRET, header="X-Jobs-Secret")


@csrf_exempt  # type: ignore[untyped-decorator] # there is no session to abuse; the secret is what counts
def run_jobs(request: HttpRequest) -> HttpResponse:
    """Hand the request to the endpoint. In an async view: `await endpoint.arespond(...)`."""
    answer = endpoint.respond(request.method or "", request.headers, request.body)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


urlpatterns = [path("api/jobs/run", run_jobs)]


def main() -> None:
    """Enqueue a report, and poke the endpoint without and with the secret."""
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], DATABASES={})
    django.setup()
    with pgqueue.Client() as client:
        client.migrate()
        build.enqueue(client, {"month": "May"})
    browser = Browser()
    print("health:", browser.get("/api/jobs/run").json())
    print("no secret:", browser.post("/api/jobs/run").status_code)
    answer = browser.post(
        "/api/jobs/run", "{}", "application/json", headers={"X-Jobs-Secret": SECRET}
    )
    print("poke:", answer.status_code, "succeeded:", answer.json()["succeeded"])


if __name__ == "__main__":
    with endpoint:
        main()
