"""A Flask application whose jobs are processed when POST /api/jobs/run is called, by a cron say.

Needs flask. Set JOBS_SECRET, make the schema with `pgqueue migrate`, and serve it with
`flask --app endpoint_flask run`. Run as a script it makes a few requests to itself.
"""

import os
import secrets

from flask import Flask, request
from werkzeug import Response

import pgqueue
from pgqueue.endpoint import Endpoint

SECRET = os.environ.get("JOBS_SECRET") or secrets.token_urlsafe(32)
handlers = pgqueue.Handlers()
app = Flask(__name__)


@handlers.register("mail.welcome", queue="flask")
def welcome(job: pgqueue.Job) -> str:
    """Send a mail; what is returned is the job's result."""
    return f"sent to {job.payload['email']}"


# While the secret is replaced: secrets=[new, old].
endpoint = Endpoint(None, handlers, secrets=SECRET, limit=10, concurrency=5)


@app.route("/api/jobs/run", methods=["GET", "POST"])
def run_jobs() -> Response:
    """Hand the request to the endpoint."""
    return Response.from_app(endpoint.wsgi, request.environ)


def main() -> None:
    """Enqueue, ask for the endpoint's health, and poke it with a wrong and the right secret."""
    with pgqueue.Client() as client:
        client.migrate()
        for name in ("ada", "bob"):
            welcome.enqueue(client, {"email": f"{name}@example.org"})
    browser, url = app.test_client(), "/api/jobs/run"
    print("health:", browser.get(url).get_json())
    refused = browser.post(url, headers={"Authorization": "Bearer wrong"})
    print("wrong secret:", refused.status_code, refused.get_json())
    answer = browser.post(url, headers={"Authorization": f"Bearer {SECRET}"}, json={"limit": 5})
    print("poke:", answer.status_code, "succeeded:", answer.get_json()["succeeded"])


if __name__ == "__main__":
    with endpoint:
        main()
