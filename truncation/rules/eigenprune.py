"""Eigenpruning (Vergara-Browne, Soto and Aizawa, arXiv 2404.03147).

Every direction of a matrix is scored by its first-order effect e_i on the loss when the matrix is
given the input of another example (search/effects.py). A direction that helps has e_i > 0; those
with the lowest scores are removed, and what they gave to the mean input can be folded into a
bias. Here each matrix loses its own lowest; eigenprune_pooled ranks as the paper does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from truncated_weights.truncation.kept import all_but_first
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.effects import effects, mean_input
from truncated_weights.truncation.search.problem import Choice, Outcome, SearchProblem, add_bias
from truncated_weights.truncation.search.prunings import Pruning, judge
from truncated_weights.truncation.search.scorer import Scorer

AGGREGATES = ("signed", "absolute")


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.2),
    compensation: Sequence[bool] = (False, True),
    aggregate: str = "signed",
    alone: bool = False,
    random_draws: int = 3,
) -> Outcome:
    """Score directions on validation examples, remove each fraction of the lowest, test one.

    The matrices are those of the candidates, pruned together (named "pruned 0.05") and, with
    `alone`, each by itself too ("1.fc_out 0.05"); compensation says whether variants have the
    mean-input bias ("... with bias"). aggregate: signed is the mean effect, whose lowest
    directions hurt; absolute is the mean of |e| over positions, whose lowest do nothing.
    Test figures are those of the full model, the best on validation, and random_draws random
    prunings of its size.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate {aggregate!r}: expected {' or '.join(AGGREGATES)}")
    scorer, validation, keys = problem.scorer, problem.validation, problem.keys
    mark = scorer.cost.mark()
    which = AGGREGATES.index(aggregate)
    found = {
        key: effects(scorer, key, validation, seed=seed)[which].mean(axis=0, dtype=np.float64)
        for key in keys
    }
    prunings = []
    for group in [*([key] for key in keys if alone), keys]:
        label = f"{group[0][0]}.{group[0][1]}" if len(group) == 1 and alone else "pruned"
        for fraction in fractions:
            masks = {
                key: all_but_first(np.argsort(found[key], kind="stable"), fraction) for key in group
            }
            prunings.append((f"{label} {fraction:g}", masks))
    variants = [
        Pruning(name + (" with bias" if biased else ""), masks, biased)
        for name, masks in prunings
        for biased in compensation
    ]
    # One structure for all variants with a bias, so that they share what is compiled.
    with_biases = _with_biases(scorer, keys) if any(compensation) else scorer

    def make(one: Pruning, where: Scorer) -> Choice:
        examples = validation if one.biased else None
        return prune(where, one.name, one.masks, compensate_on=examples)

    return judge(
        problem, variants, make, with_biases, mark=mark, random_draws=random_draws,
        objective=objective, seed=seed, samples=samples,
    )  # fmt: skip


def prune(
    scorer: Scorer,
    name: str,
    masks: Mapping[Key, np.ndarray],
    *,
    compensate_on: np.ndarray | None = None,
) -> Choice:
    """The choice to keep what the masks [r] keep, with the biases that make up for the rest.

    compensate_on: examples whose mean input x_mean is used to add x_mean @ W_removed to the
    output as a bias, so that the mean output of each matrix stays what it was for the
    inputs it now gets; matrices are done from the bottom up, each on the network already
    pruned below. Raises ValueError where the model has no place for a bias.
    """
    if compensate_on is None:
        return Choice(name, None, dict(masks))
    decompositions = scorer.decompositions
    below, biases = scorer.params, {}
    for key in [key for key in scorer.network.matrices if key in masks]:
        components, address = decompositions[key], scorer.network.matrices[key]
        x = mean_input(scorer, below, key, compensate_on)
        u, s, vt = (np.asarray(part, np.float64) for part in address.at_stop(components))
        biases[key] = ((x @ u) * s * (1 - masks[key])) @ vt
        below = address.keep(below, components, jnp.asarray(masks[key]))
        below = add_bias(below, decompositions, key, biases[key])
    return Choice(name, None, dict(masks), biases)


def _with_biases(scorer: Scorer, keys: Sequence[Key]) -> Scorer:
    """The same model with a bias of zero wherever one may be added; the cost is shared."""
    params = scorer.params
    for key in keys:
        width = scorer.decompositions[key].vt.shape[1]
        params = add_bias(params, scorer.decompositions, key, np.zeros(width))
    with_biases = scorer.on(params=params)
    with_biases.decompositions = scorer.decompositions.at(params)
    with_biases.cost = scorer.cost
    return with_biases
