"""`pgqueue demo`: reads the standard library with two worker processes, one of which is killed.

Needs the extra `cli`, and `embedded` unless a DSN is given.
"""

from pgqueue.demo.story import Demo

__all__ = ["Demo"]
