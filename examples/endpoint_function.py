"""A serverless function that processes due jobs, called by a scheduler or over HTTP.

The process may be frozen or thrown away after each answer, so that connections are not kept. Run as
a script it calls its functions as a host would.
"""

import json
import os
import secrets
from datetime import timedelta
from typing import Any

import pgqueue
from pgqueue.endpoint import Answer, Endpoint

SECRET = os.environ.get("JOBS_SECRET") or secrets.token_urlsafe(32)
handlers = pgqueue.Handlers()


@handlers.register("image.import", queue="function")
def import_image(job: pgqueue.Job) -> str:
    """Import an image; what is returned is the job's result."""
    return f"imported {job.payload['url']}"


endpoint = Endpoint(
    None,
    handlers,
    secrets=SECRET,
    keep=False,
    budget=timedelta(seconds=20),  # well below what the host allows
)


def on_schedule() -> Answer:
    """What the host's own scheduler calls: nobody else can, so it needs no secret."""
    return endpoint.process(limit=5)


def on_request(event: dict[str, Any]) -> dict[str, Any]:
    """What a gateway calls, with a request as a dict."""
    body = event["body"].encode()
    answer = endpoint.respond(event["method"], event["headers"], body)
    return {
        "statusCode": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body.decode(),
    }


def main() -> None:
    """Enqueue, and call both."""
    with pgqueue.Client() as client:
        client.migrate()
        for number in range(7):
            import_image.enqueue(client, {"url": f"https://example.org/{number}.png"})
    counts = on_schedule()
    print("scheduled:", counts["succeeded"], "more:", counts["more"])
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = on_request({"method": "POST", "headers": headers, "body": ""})
    print("request:", answer["statusCode"], "succeeded:", json.loads(answer["body"])["succeeded"])


if __name__ == "__main__":
    main()
