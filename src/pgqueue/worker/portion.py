"""How much to ask of one statement where a statement_timeout may end it."""

from __future__ import annotations


class Portion:
    """Halved by each statement that was ended, and grown by each that was not.

    It grows slowly, so that under a short timeout few statements are spent on finding the limit.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = most

    def shrink(self) -> None:
        """After a statement that took too long."""
        self.size = max(self.size // 2, 1)

    def grow(self) -> None:
        """After one that did not."""
        self.size = min(self.size + self.size // 16 + 1, self.most)
