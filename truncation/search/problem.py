"""What a selection rule is given, and what it gives back: the same for every rule.

A rule is a function run(problem, *, objective, seed, samples, ...) -> Outcome. It chooses on the
validation examples alone; where the problem has test examples they see the choice once.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.notation import Intervention, Key
from truncated_weights.truncation.search.comparison import summarise
from truncated_weights.truncation.search.cost import Cost
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.examples import HostScores
from truncated_weights.truncation.search.scorer import Indices, Scorer


@dataclasses.dataclass(frozen=True, eq=False)
class SearchProblem:
    """A model, what may be done to it, and on which examples it is judged.

    candidates are interventions; rules that choose components one by one (eigenpruning) take
    the matrices of the candidates. validation and test are indices of the scorer's examples
    (statistics.split).
    """

    scorer: Scorer
    candidates: tuple[Intervention, ...]
    validation: Indices
    test: Indices | None = None

    @property
    def keys(self) -> tuple[Key, ...]:
        """The matrices that candidates touch, in order of appearance."""
        resolve = self.scorer.decompositions.resolve
        return tuple(dict.fromkeys(key for one in self.candidates for key in resolve(one)))


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What to do to a model.

    Either an intervention, or components chosen one by one: then masks [r] say what stays of
    each matrix, and biases [d_out] what is added to its output. masks are given for an
    intervention too, where it cuts by components.
    """

    name: str
    intervention: Intervention | None = None
    masks: Mapping[Key, np.ndarray] = dataclasses.field(default_factory=dict)
    biases: Mapping[Key, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def removed(self) -> int:
        """How many components go."""
        return int(sum((mask == 0).sum() for mask in self.masks.values()))

    def params(self, decompositions: Decompositions) -> Params:
        """New parameters after the choice; ValueError where a bias has no place."""
        if self.intervention is not None:
            return decompositions.edited(self.intervention)
        params = decompositions.keep(self.masks)
        for key, bias in self.biases.items():
            params = add_bias(params, decompositions, key, bias)
        return params


NO_CHOICE = Choice("nothing", Intervention(()))


def intervene(decompositions: Decompositions, intervention: Intervention) -> Choice:
    """The choice of an intervention, its masks included."""
    return Choice(str(intervention), intervention, decompositions.masks(intervention))


def add_bias(params: Params, decompositions: Decompositions, key: Key, bias: Any) -> Params:
    """New parameters whose matrix `key` has `bias` [d_out] added to its output."""
    add = decompositions.matrices[key].add_bias
    if add is None:
        raise ValueError(f"matrix {key[0]}.{key[1]} has no place for a bias")
    return add(params, jnp.asarray(bias, jnp.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a rule found and what it cost.

    choice is NO_CHOICE where leaving the model alone is best on validation; nearest is the best
    that was tried, whether or not it helps (the choice itself where there is one). rows are flat:
    they go to a table. evaluations counts as search.cost says. warning says where the
    choice is within noise of doing nothing, None where it is not. lost are the names of candidates
    that left the finite numbers: they have no figures, and none of them is choice or nearest.
    """

    choice: Choice
    nearest: Choice
    rows: list[dict[str, Any]]
    evaluations: int
    seconds: float
    warning: str | None = None
    lost: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines to tell beside the figures: the warning, and how many candidates have none."""
        found = [self.warning] if self.warning else []
        if self.lost:
            found.append(
                f"{len(self.lost)} of the candidates left the finite numbers, {self.lost[0]} "
                "first: without figures, never chosen"
            )
        return tuple(found)

    @property
    def best(self) -> Intervention:
        """The intervention chosen; no cuts where there is none."""
        return self.choice.intervention or Intervention(())

    @property
    def improves(self) -> bool:
        """Whether the choice is to do something."""
        return self.choice is not NO_CHOICE


def conclude(
    cost: Cost,
    mark: tuple[int, float],
    *,
    nearest: Choice,
    improves: bool,
    rows: list[dict[str, Any]],
    warning: str | None,
    lost: Iterable[str] = (),
) -> Outcome:
    """The outcome of a rule that began at `mark`; what is lost is not chosen, nor the nearest.

    Where rows say which is chosen, that is then the first, of the full model.
    """
    evaluations, seconds = cost.since(mark)
    lost = tuple(dict.fromkeys(lost))
    if nearest.name in lost:
        nearest, improves = NO_CHOICE, False
        warning = "nothing that was tried is better and stays within the finite numbers"
        for index, row in enumerate(rows):
            if "chosen" in row:
                row["chosen"] = index == 0
    choice = nearest if improves else NO_CHOICE
    return Outcome(choice, nearest, rows, evaluations, seconds, warning, lost)


def add_figures(
    rows: list[dict[str, Any]],
    scores: HostScores,
    full: HostScores,
    weights: np.ndarray,
    *,
    prefix: str,
    seed: Any,
    samples: int,
) -> None:
    """Fill the figures of the full model into the first row, those of candidates into the rest.

    scores are [candidates, examples, answers], one candidate for every row but the first.
    """
    with_full = {name: np.concatenate([full[name][None], v]) for name, v in scores.items()}
    figures = summarise(with_full, full, weights, prefix=prefix, seed=seed, samples=samples)
    for row, values in zip(rows, figures, strict=True):
        row.update(values)
