"""What a search costs, counted the same way in every rule.

One evaluation is one forward pass of one example under one candidate. A backward pass counts as
two more. A candidate whose scores are read back from a cache, or whose lower layers are shared,
counts like any other: the figure compares rules, not implementations.
"""

import dataclasses
import time

# A backward pass costs about two forward passes on top of its own.
BACKWARD = 3


@dataclasses.dataclass
class Cost:
    """A meter; rules read it before and after."""

    evaluations: int = 0

    def forward(self, examples: int, passes: int = 1) -> None:
        """So many passes over so many examples."""
        self.evaluations += passes * examples

    def backward(self, examples: int) -> None:
        """A forward and a backward pass over so many examples."""
        self.evaluations += BACKWARD * examples

    def mark(self) -> tuple[int, float]:
        """Now, for `since`."""
        return self.evaluations, time.perf_counter()

    def since(self, mark: tuple[int, float]) -> tuple[int, float]:
        """Evaluations and seconds since a mark."""
        return self.evaluations - mark[0], time.perf_counter() - mark[1]
