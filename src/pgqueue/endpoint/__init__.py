"""An HTTP endpoint that works off a queue when it is poked: WSGI, ASGI, or a function to call."""

from pgqueue.endpoint.answer import Answer, JobAnswer
from pgqueue.endpoint.endpoint import Endpoint
from pgqueue.endpoint.messages import Response
from pgqueue.endpoint.signing import sign

__all__ = ["Answer", "Endpoint", "JobAnswer", "Response", "sign"]
