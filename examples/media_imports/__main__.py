"""Shows it on the server that PGQUEUE_DSN names, or an embedded one: a poke, and then a worker."""

import threading
from datetime import timedelta

from examples.media_imports.app import app, client, endpoint, handlers
from examples.third_party import third_party

import pgqueue

RUN = "/api/media-imports/run"


def main() -> None:
    """Ask for imports of a third party that is in a bad mood, and process them."""
    browser = app.test_client()
    print("health:", browser.get(RUN).get_json())
    print("poke without the secret:", browser.post(RUN).status_code)
    with third_party() as source:
        app.config["SOURCE"] = source.url
        for name in ("cat", "dog", "owl"):
            source.put(f"/media/{name}", {"caption": f"a {name}"})
        source.next(1, "error", path="/media/dog")
        source.next(1, "busy", path="/media/owl", retry_after=1)
        asked = [browser.put(f"/imports/{name}").get_json() for name in ("cat", "dog", "owl")]
        again = browser.put("/imports/owl").get_json()
        print("asked for owl again, still one job:", again["duplicate"])
        answer = endpoint.process()  # what POST does, with the secret
        print("poke:", sorted(result["outcome"] for result in answer["results"]))
        # Where a process may stay up, no poke is needed.
        worker = pgqueue.Worker(client, handlers)
        working = threading.Thread(target=worker.run)
        working.start()
        for job in asked:
            done = client.wait(job["job"], timeout=timedelta(seconds=20))
            print(done.ref, [attempt.outcome for attempt in done.history], "->", done.state)
        worker.stop()
        working.join()
    print("stored:", browser.get("/imports/owl").get_json()["media"])


if __name__ == "__main__":
    with client, endpoint:
        main()
