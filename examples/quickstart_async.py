"""The same as quickstart.py, with asyncio."""

import asyncio

import pgqueue


async def main() -> None:
    """Enqueue a job, claim it, end it."""
    async with pgqueue.AsyncClient() as client:
        await client.migrate()
        await client.enqueue("email.send", {"to": "ada@example.org"}, queue="mail")
        for job in await client.claim("mail"):
            print("sending a mail to", job.payload["to"])
            await client.ack(job)


if __name__ == "__main__":
    asyncio.run(main())
