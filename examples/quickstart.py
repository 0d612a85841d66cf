"""Enqueue a job, claim it, end it."""

import pgqueue

with pgqueue.Client() as client:  # PGQUEUE_DSN; without it, an embedded server is started
    client.migrate()
    client.enqueue("email.send", {"to": "ada@example.org"}, queue="mail")
    for job in client.claim("mail"):
        print("sending a mail to", job.payload["to"])
        client.ack(job)
