"""A FastAPI application that enqueues, shows a job's result, and runs a small worker of its own.

Needs fastapi, httpx and uvicorn. Serve it with `uvicorn fastapi_app:app`. Run as a script it makes
a few requests to itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from fastapi import FastAPI, HTTPException

import pgqueue

handlers = pgqueue.Handlers()
client = pgqueue.AsyncClient()


@handlers.register("text.count", queue="text")
async def count(job: pgqueue.Job) -> dict[str, int]:
    """Count words; what is returned is the job's result."""
    return {"words": len(job.payload["text"].split())}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run a worker in the server's own process while it serves.

    That is enough for a few light jobs. More of them belong in processes of their own, which a
    new version of the application does not stop: `pgqueue worker fastapi_app -q text`.
    """
    await client.migrate()
    worker = pgqueue.Worker(client, handlers, queues="text", concurrency=5)
    working = asyncio.create_task(worker.run_async())
    yield
    worker.stop()
    await working
    await client.close()


app = FastAPI(lifespan=lifespan)


@app.post("/texts", status_code=202)
async def enqueue(text: str) -> dict[str, int]:
    """Enqueue; the answer comes at once, whatever the job takes."""
    queued = await count.enqueue(client, {"text": text})
    return {"job": queued.id}


@app.get("/jobs/{job_id}")
async def show(job_id: int) -> dict[str, object]:
    """Say how a job is doing."""
    try:
        job = await client.get(job_id)
    except pgqueue.JobNotFound as error:
        raise HTTPException(404, "there is no such job, or it was finished long ago") from error
    return {"state": job.state, "result": job.result}


async def main() -> None:
    """Enqueue a text, wait for its job, and look at it."""
    transport = httpx.ASGITransport(app)
    browser = httpx.AsyncClient(transport=transport, base_url="http://app")
    async with app.router.lifespan_context(app), browser:
        answer = await browser.post("/texts", params={"text": "to be or not to be"})
        print(answer.status_code, answer.json().keys())
        job_id = answer.json()["job"]
        await client.wait(job_id, timeout=timedelta(seconds=10))
        print((await browser.get(f"/jobs/{job_id}")).json())
        print((await browser.get("/jobs/0")).status_code)


if __name__ == "__main__":
    asyncio.run(main())
