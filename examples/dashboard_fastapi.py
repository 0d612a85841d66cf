"""A FastAPI application that shows its queue to those of its users who are staff.

Needs fastapi, httpx and the extra `dashboard`. Serve it with `uvicorn dashboard_fastapi:app`, and
open /ops/queue/. Run as a script it asks itself for a few pages, and retries a dead job.
"""

import asyncio
import re

import httpx
from fastapi import FastAPI, Request

import pgqueue
from pgqueue.dashboard import Dashboard, User

STAFF = {"ada": "operator", "vic": "viewer"}
client = pgqueue.Client()


def who(request: Request) -> User | None:
    """Say who asks; a real application looks at its session instead of a header."""
    match STAFF.get(name := request.headers.get("x-user", "")):
        case "operator":
            return User(name, "operator")
        case "viewer":
            return User(name, "viewer")
        case _:
            return None


app = FastAPI()
app.mount("/ops/queue", Dashboard(client, auth=who, title="Shop jobs"))


async def main() -> None:
    """Let a job die, and mend it as an operator does."""
    client.migrate()
    number = client.enqueue("mail.send", {"to": "ada@example.org"}, queue="dash", max_attempts=1).id
    client.fail(client.claim("dash", limit=100), "the provider is down")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as browser:
        url = f"/ops/queue/jobs/{number}"
        print("nobody:", (await browser.get(url)).status_code)
        page = await browser.get(url, headers={"x-user": "ada"})
        print("ada sees why:", "the provider is down" in page.text)
        token = re.findall(r'name="csrf" value="(\w+)"', page.text)[0]
        for origin in ("http://elsewhere", "http://app"):
            headers = {"x-user": "ada", "origin": origin}
            answer = await browser.post(f"{url}/retry", data={"csrf": token}, headers=headers)
            print(f"retry from {origin}:", answer.status_code, client.get(number).state)


if __name__ == "__main__":
    with client:
        asyncio.run(main())
