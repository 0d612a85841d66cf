"""Metrics for Prometheus: of what workers do, and of what waits in the database (extra `metrics`).

    server = MetricsServer(9187)
    Worker(client, handlers, observers=[server]).run()

is what `pgqueue worker --metrics-port 9187` does; `pgqueue metrics` serves the database's.
"""

from __future__ import annotations

try:
    import prometheus_client as _  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "pgqueue.metrics needs prometheus-client; install pgqueue's extra `metrics`"
    ) from error

from pgqueue.metrics.apps import asgi_app, wsgi_app
from pgqueue.metrics.database import QueueMetrics
from pgqueue.metrics.server import MetricsServer, serve
from pgqueue.metrics.worker import WorkerMetrics

__all__ = ["MetricsServer", "QueueMetrics", "WorkerMetrics", "asgi_app", "serve", "wsgi_app"]
