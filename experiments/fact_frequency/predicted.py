"""What the memory says of the same facts: fitted to the whole model, asked about cuts.

One memory for each kind of facts, with its true frequencies and alpha. All share r and a clock:
time is learning rate times steps, in units in which the facts are the whole text, so a kind that
is the share s of the facts has had the time s t.

Two cuts. "top" drops the memory's largest singular component; nothing of it is fitted. "matched"
takes a share of the row that all facts have in common: as much as brings p(" the") to what the
model's own cut brought it to on the facts for choosing. So its strength is fitted, and what is
predicted is which facts it corrects.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import softmax

from truncated_weights.experiments.fact_frequency.facts import Facts
from truncated_weights.theory import frequent_memory
from truncated_weights.theory.text import shared_answers
from truncated_weights.theory.text.shared_answers import Memory

Answers = Literal["own", "shared"]
ANSWERS: tuple[Answers, ...] = ("own", "shared")
PER_DECADE = 20
# Leaves an error of 1e-5 in the logits, far below what is measured.
NODES = 48


def who(answers: str, cut: str) -> str:
    """What tables call the memory with such answers, asked about a cut."""
    return f"{answers}, {cut}"


def clocks(longest: float) -> np.ndarray:
    """The times at which a clock may stand, evenly spaced on a logarithmic scale from 1."""
    return np.geomspace(1.0, longest, 1 + int(np.ceil(PER_DECADE * np.log10(longest))))


@dataclasses.dataclass(frozen=True)
class Whole:
    """No cut."""

    def __call__(self, memory: Memory, values: np.ndarray) -> np.ndarray:
        """The logits as they are."""
        return values


@dataclasses.dataclass(frozen=True)
class Top:
    """The largest singular component goes."""

    def __call__(self, memory: Memory, values: np.ndarray) -> np.ndarray:
        """Logits after the cut."""
        return shared_answers.without_top(memory, values)


@dataclasses.dataclass(frozen=True)
class Row:
    """A share of the common row goes."""

    share: float

    def __call__(self, memory: Memory, values: np.ndarray) -> np.ndarray:
        """Logits after the cut."""
        return shared_answers.without_row(memory, values, self.share)


Cut = Whole | Top | Row
SHARES = tuple(np.linspace(0.0, 1.0, 41).tolist())
Scores = dict[str, np.ndarray]


def predict(
    facts: Facts, answers: Answers, shared: float, times: np.ndarray, cuts: Sequence[Cut]
) -> dict[Cut, Scores]:
    """p_answer, p_the, accuracy and loss [times, facts] after each cut, at one r."""
    shape = (len(times), len(facts.examples))
    scores: dict[Cut, Scores] = {
        cut: {name: np.empty(shape) for name in ("p_answer", "p_the", "accuracy", "loss")}
        for cut in cuts
    }
    for kind in facts.kinds.values():
        size = len(kind.where)
        numbers = kind.answers if answers == "shared" else np.arange(size)
        memory = shared_answers.memory(kind.frequencies, numbers, facts.alpha, shared)
        if answers == "shared":
            logits = shared_answers.logits(memory, kind.share * times)
        else:
            logits = frequent_memory.logits(memory.facts, kind.share * times, num_nodes=NODES)
        for cut, found in scores.items():
            for row, values in enumerate(logits):
                left = cut(memory, values)
                law = softmax(left, axis=-1)
                right = law[np.arange(size), numbers]
                found["p_answer"][row, kind.where] = right
                found["p_the"][row, kind.where] = law[:, -1]
                found["accuracy"][row, kind.where] = shared_answers.known(memory, left)
                found["loss"][row, kind.where] = -np.log(right)
    return scores


def matched(
    facts: Facts, scores: Mapping[Cut, Scores], row: int, p_the: np.ndarray
) -> tuple[float, Scores]:
    """The share of the common row that leaves this mean p(" the"), and its scores [facts].

    row: which of the times; p_the: of every fact after the model's own cut.
    """
    wanted = p_the[facts.validation].mean()
    best = min(
        (cut for cut in scores if isinstance(cut, Row)),
        key=lambda cut: abs(scores[cut]["p_the"][row, facts.validation].mean() - wanted),
    )
    return best.share, {name: values[row] for name, values in scores[best].items()}


def distance(
    facts: Facts, whole: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Mean square difference of p(answer) and p(" the") on facts for choosing, added.

    whole: predicted scores [clocks, facts]; before: measured ones [runs, steps, facts]. Gives
    [runs, steps, clocks].
    """
    total = np.zeros(())
    for name in ("p_answer", "p_the"):
        said = whole[name][:, facts.validation]
        difference = before[name][..., None, :][..., facts.validation] - said
        total = total + np.mean(difference**2, axis=-1)
    return total
