"""Runs jobs: claims them, calls their handlers, and reports how they ended."""

from pgqueue.worker.worker import Worker

__all__ = ["Worker"]
