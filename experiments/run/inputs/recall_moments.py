"""Cuts that measure components by data: moments on noisy sequences, as in training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from truncated_weights.toy import recall, surgery, transformer
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.setup import Setup
from truncated_weights.training.loop import State
from truncated_weights.truncation import editing
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import Intervention, Key
from truncated_weights.truncation.search import moments
from truncated_weights.truncation.search.scorer import Scorer

# Of the key that draws sequences for moments: neither those of training nor of evaluation.
_DRAW = 15485863


def measured(interventions: Sequence[Intervention]) -> list[Intervention]:
    """Those that need moments."""
    return [one for one in interventions if any(cut.metric for cut in one.cuts)]


def moments_of(
    setup: Setup, weights: Weights, interventions: Sequence[Intervention], *, sequences: int
) -> dict[Key, Moments]:
    """Moments of the matrices that these cuts measure by data, over noisy sequences.

    Gradients, where a cut asks for them, are of tokens drawn from the model itself.
    """
    matrices = transformer.matrices(setup.model)
    cuts = [cut for one in interventions for cut in editing.resolve(one, matrices).values()]
    keys = [(int(cut.layer), cut.matrix) for cut in cuts if cut.metric]
    if not keys:
        return {}
    key = jax.random.fold_in(jax.random.key(setup.config.seed), _DRAW)
    batch = recall.sample(setup.task, key, batch_size=sequences)
    network = surgery.RecallNetwork(setup.task, setup.model)
    scorer = Scorer(network, weights, surgery.examples(batch, batch_size=64))
    gradients = any(cut.metric in ("fisher", "kfac") for cut in cuts)
    return moments.gather(scorer, keys, np.arange(sequences), gradients=gradients)


def edited(
    setup: Setup, state: State, interventions: Sequence[Intervention], *, sequences: int
) -> Iterable[tuple[Intervention, State]]:
    """The state with every seed's weights cut, for each of the interventions."""
    matrices = transformer.matrices(setup.model)
    weights = transformer.combine(state.params, state.frozen)
    seeds = [jax.tree.map(lambda leaf, i=i: leaf[i], weights) for i in range(len(state.first_bad))]
    found: list[Mapping[Key, Moments]] = [
        moments_of(setup, one, interventions, sequences=sequences) for one in seeds
    ]
    for cut in interventions:
        new: list[Any] = [
            editing.apply(one, cut, matrices, moments)
            for one, moments in zip(seeds, found, strict=True)
        ]
        whole = jax.tree.map(lambda *leaves: np.stack(leaves), *new)
        yield cut, state._replace(params=whole, frozen={})
