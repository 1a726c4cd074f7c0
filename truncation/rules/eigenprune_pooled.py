"""Eigenpruning with the ranking of its paper (Vergara-Browne, Soto and Aizawa, arXiv 2404.03147).

Every head's part of q_proj, k_proj, v_proj and out_proj is decomposed by itself, other matrices
whole. A direction's score is its largest effect e_i (search/effects.py) over examples and
positions: how much it ever helps. All directions of one type of matrix, over layers and heads,
stand in one ascending list, and the lowest fraction of the list goes. So a layer may lose most
of its keys and another none, where rules/eigenprune.py takes the same share of every matrix.

Against the public code: the counterfactual is a derangement of all examples instead of a roll
of the batch, inputs are those behind the norm, the bias is the mean over examples and positions
instead of the last batch's sum, and positions where either example is padding do not count. Kept
is that a position where all examples agree (the token that begins a text) has effect zero, so
that no score is below zero there; such ties are broken by the mean effect.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.kept import all_but_first
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search import blocks
from truncated_weights.truncation.search.blocks import BlockChoice, HeadBlock
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.effects import (
    mean_input,
    moments,
    per_position,
    require_finite,
)
from truncated_weights.truncation.search.problem import Choice, Outcome, SearchProblem, add_bias
from truncated_weights.truncation.search.prunings import Pruning, judge
from truncated_weights.truncation.search.scorer import Scorer
from truncated_weights.truncation.spectrum import Decomposition


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    fractions: Sequence[float] = (0.2,),
    compensation: Sequence[bool] = (True,),
    random_draws: int = 3,
) -> Outcome:
    """Score directions on validation, remove each fraction of each type's list, test one.

    The matrices are those of the candidates; products are refused with ValueError. Rows and
    test figures are as in rules/eigenprune.py.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    scorer, validation = problem.scorer, problem.validation
    matrices = scorer.network.matrices
    if product := next((key for key in problem.keys if matrices[key].parts), None):
        raise ValueError(
            f"{product[0]}.{product[1]}: it is a product; the paper ranks stored matrices"
        )
    mark = scorer.cost.mark()
    parts = [one for key in problem.keys for one in blocks.blocks_of(matrices, key, scorer.params)]
    known = blocks.decompositions(matrices, parts, scorer.params)
    found: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
    for key in problem.keys:
        found |= largest(scorer, key, [b for b in parts if b.whole == key], known, seed=seed,
                         examples=validation)  # fmt: skip
    variants = [
        Pruning(
            f"pooled {fraction:g}" + (" with bias" if biased else ""),
            lowest_of_each_type(parts, found, fraction),
            biased,
        )
        for fraction in fractions
        for biased in compensation
    ]

    def make(one: Pruning, where: Scorer) -> Choice:
        biases = _biases(where, parts, known, one.masks, validation) if one.biased else {}
        return BlockChoice(one.name, None, dict(one.masks), biases, blocks=known)

    return judge(
        problem, variants, make, scorer, mark=mark, random_draws=random_draws,
        objective=objective, seed=seed, samples=samples,
    )  # fmt: skip


def largest(
    scorer: Scorer,
    key: Key,
    parts: Sequence[HeadBlock],
    known: Decompositions,
    *,
    examples: np.ndarray,
    seed: Any = 0,
) -> dict[Key, tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]]:
    """Of every direction of a matrix's blocks its largest effect, and the mean over examples.

    The largest is over examples and positions, the mean that of rules/eigenprune.py.
    """
    found: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
    for one in moments(scorer, key, examples, seed=seed):
        # Examples that only fill a batch up are no examples.
        valid = one.valid & (jnp.arange(len(one.valid)) < one.size)[:, None]
        for part in parts:
            most, total = map(
                np.asarray,
                _reduced(
                    one.gradient[..., part.columns],
                    one.difference[..., part.rows],
                    valid,
                    known[part.key],
                ),
            )
            before = found.get(part.key, (np.full(len(most), -np.inf), np.zeros(len(total))))
            found[part.key] = (np.maximum(before[0], most), before[1] + total / len(examples))
    means = (mean for _, mean in found.values())
    require_finite(scorer, f"the effects in {key[0]}.{key[1]}", means, examples)
    return found


@jax.jit
def _reduced(
    gradient: Array, difference: Array, valid: Array, components: Decomposition
) -> tuple[Array, Array]:
    each = per_position(gradient, difference, valid, components)
    most = jnp.max(jnp.where(valid[..., None], each, -jnp.inf), axis=(0, 1))
    return most, each.sum(axis=(0, 1))


def lowest_of_each_type(
    parts: Sequence[HeadBlock], found: Mapping[Key, tuple[np.ndarray, np.ndarray]], fraction: float
) -> dict[Key, Float[np.ndarray, " r"]]:
    """Zeros at the floor(fraction n) lowest of the n directions of each type, ones elsewhere."""
    masks = {part.key: np.ones(len(found[part.key][0]), np.float32) for part in parts}
    for kind in dict.fromkeys(part.whole[1] for part in parts):
        keys = [part.key for part in parts if part.whole[1] == kind]
        most, mean = (np.concatenate([found[key][i] for key in keys]) for i in (0, 1))
        pooled = all_but_first(np.lexsort((mean, most)), fraction)
        edges = np.cumsum([len(masks[key]) for key in keys])[:-1]
        masks |= dict(zip(keys, np.split(pooled, edges), strict=True))
    return masks


def _biases(
    scorer: Scorer,
    parts: Sequence[HeadBlock],
    known: Decompositions,
    masks: Mapping[Key, np.ndarray],
    examples: np.ndarray,
) -> dict[Key, Float[np.ndarray, " d_out"]]:
    """What the removed parts gave to the mean input, matrices done from the bottom up."""
    below: Params = scorer.params
    biases: dict[Key, np.ndarray] = {}
    wholes = {part.whole for part in parts}
    for key in (key for key in scorer.network.matrices if key in wholes):
        x = mean_input(scorer, below, key, examples)
        mine = [part for part in parts if part.whole == key]
        biases[key] = np.zeros(scorer.network.matrices[key].read(below).shape[1])
        for part in mine:
            u, s, vt = (np.asarray(a, np.float64) for a in known[part.key])
            gone = 1 - masks[part.key]
            biases[key][part.columns] += ((x[part.rows] @ u) * s * gone) @ vt
        # Decompositions are of the original, and below still holds these matrices as they were.
        below = known.at(below).keep({part.key: masks[part.key] for part in mine})
        below = add_bias(below, known, key, biases[key])
    return biases
