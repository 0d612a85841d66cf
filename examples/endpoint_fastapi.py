"""A FastAPI application whose jobs are processed when POST /api/jobs/run is called.

Needs fastapi and httpx. `add_route` is Starlette's, so there it is the same; `mount` would redirect
a request without a slash at its end, which not every cron follows. Serve it with
`uvicorn endpoint_fastapi:app`. Run as a script it makes a few requests to itself.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

import pgqueue
from pgqueue.endpoint import Endpoint, sign

SECRET = os.environ.get("JOBS_SECRET") or secrets.token_urlsafe(32)
handlers = pgqueue.Handlers()


@handlers.register("text.count", queue="fastapi")
async def count(job: pgqueue.Job) -> dict[str, int]:
    """Count words; what is returned is the job's result."""
    return {"words": len(job.payload["text"].split())}


endpoint = Endpoint(None, handlers, hmac_secrets=SECRET)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the endpoint's connections when the server ends."""
    async with endpoint:
        yield


app = FastAPI(lifespan=lifespan)
app.add_route("/api/jobs/run", endpoint.asgi)  # type: ignore[arg-type] # takes an ASGI app, too


async def main() -> None:
    """Enqueue a text, and poke the endpoint without and with a signature, and with it again."""
    client = pgqueue.AsyncClient()
    async with client:
        await client.migrate()
        await count.enqueue(client, {"text": "to be or not to be"})
    transport = httpx.ASGITransport(app)
    browser = httpx.AsyncClient(transport=transport, base_url="http://app")
    async with app.router.lifespan_context(app), browser:
        body = b'{"limit": 5}'
        headers = {"Content-Type": "application/json", **sign(SECRET, body)}
        url = "/api/jobs/run"
        print("unsigned:", (await browser.post(url, content=body)).status_code)
        answer = await browser.post(url, content=body, headers=headers)
        print("signed:", answer.status_code, "succeeded:", answer.json()["succeeded"])
        again = await browser.post(url, content=body, headers=headers)
        print("replayed:", again.status_code)


if __name__ == "__main__":
    asyncio.run(main())
