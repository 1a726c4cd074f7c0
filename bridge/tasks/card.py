"""What a task tells of itself: where it is from, how it is asked, what was published.

Cards are data. The programs print them in their help and beside results; nothing is computed
from the published figures.
"""

import dataclasses
import textwrap
from typing import Literal

from truncated_weights.bridge.tasks.example import Marking


@dataclasses.dataclass(frozen=True)
class Published:
    """A figure of a paper: accuracy in per cent and log loss, before and after a cut.

    cut is in the notation of this project (27.fc_in@0.01); None where a paper is silent.
    """

    model: str
    accuracy: float
    accuracy_cut: float
    cut: str | None = None
    loss: float | None = None
    loss_cut: float | None = None

    def line(self) -> str:
        """One line for a table."""
        losses = "" if self.loss is None else f", log loss {self.loss:g} -> {self.loss_cut:g}"
        cut = f" ({self.cut})" if self.cut else ""
        return f"{self.model}: {self.accuracy:g} -> {self.accuracy_cut:g} %{losses}{cut}"


@dataclasses.dataclass(frozen=True)
class Card:
    """Source, licence, rows, prompt and marking of a task, with its published figures.

    name is what --tasks calls it; reads says which files it takes, in order; hub holds their
    names on the hub (bridge/tasks/files/hub_rows.py) where these are known. protocol names
    the paper whose protocol --protocol=published follows. faults are those of the published
    protocol, and what is done about each.
    """

    name: str
    source: str
    licence: str
    reads: str
    rows: str
    asked: str
    marking: Marking
    protocol: Literal["laser", "eigenpruning", "few_shot", "none"]
    hub: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    faults: tuple[str, ...] = ()

    def text(self) -> str:
        """The card as lines of at most 96 characters, the name first."""
        marked = {
            "top1": "the most probable of all tokens",
            "choice_summed": "the most probable of a closed set, log-probabilities summed",
            "contains": f"among {self.marking.new_tokens} generated tokens",
            "number": f"the number that up to {self.marking.new_tokens} generated tokens end in",
        }[self.marking.metric]
        entries = [
            ("from", f"{self.source} ({self.licence})"),
            ("reads", self.reads + (f"; on the hub {' + '.join(self.hub)}" if self.hub else "")),
            ("rows", self.rows),
            ("asked", self.asked),
            ("marked", marked),
            *(("published", figure.line()) for figure in self.published),
            *(("fault", fault) for fault in self.faults),
        ]
        lines = [self.name]
        for label, value in entries:
            lines += textwrap.wrap(
                value,
                96,
                initial_indent=f"  {label:10s}",
                subsequent_indent=" " * 12,
                break_on_hyphens=False,
            )
        return "\n".join(lines)
