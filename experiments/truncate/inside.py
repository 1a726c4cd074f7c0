"""What a cut took away: parts alone, removed components, flipped answers, stored factors."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.inputs import recall_moments, recall_setup
from truncated_weights.experiments.run.inputs.recall_setup import Setup
from truncated_weights.experiments.truncate import components
from truncated_weights.toy import recall, surgery, transformer
from truncated_weights.toy.recall import Batch, Task
from truncated_weights.truncation import ablation, degenerate, factored
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search import network as search_network
from truncated_weights.truncation.search.scorer import Scorer

DETAILS = ("parts", "components", "flips", "factors", "notes")


def look(
    run: str, setup: Setup, step: int, chosen: Sequence[Intervention], *, sequences: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows by name of DETAILS, of the first seed left at a checkpoint."""
    _, _, state = recall_setup.restore(run, step)
    first = recall_setup.left(state)[0]
    weights = jax.tree.map(
        lambda leaf: leaf[first], transformer.combine(state.params, state.frozen)
    )
    key = jax.random.fold_in(jax.random.key(setup.config.seed), 104729)
    clean, noisy = (
        recall.sample(setup.task, key, batch_size=sequences, alpha=alpha) for alpha in (0.0, None)
    )
    network = surgery.RecallNetwork(setup.task, setup.model)
    moments = recall_moments.moments_of(setup, weights, chosen, sequences=sequences)
    on_clean = Scorer(network, weights, surgery.examples(clean, batch_size=128)).measured(moments)
    on_noisy = on_clean.on(examples=surgery.examples(noisy, batch_size=128))
    everything, named = np.arange(sequences), functools.partial(_named, setup)
    before = on_noisy.full(everything)["accuracy"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in DETAILS}
    for cut in chosen:
        stop.check()
        for row in ablation.report(on_clean, cut, everything):
            tokens = [named(token) for token in row.pop("top_classes")]
            found["parts"].append(row | {"top_tokens": tokens})
        found["components"] += components.removed(on_clean, setup.model, cut, everything, named)
        after = on_noisy.full(everything, on_noisy.expanded(cut))["accuracy"]
        # Of a cut that leaves the finite numbers there are no answers to compare.
        if np.isfinite(after).all():
            rows = ablation.flips(
                before, after, np.asarray(noisy.weights), context_counts(setup.task, noisy)
            )
            found["flips"] += [{"intervention": str(cut)} | row for row in rows]
        found["factors"].append(_factors(on_clean, cut))
        found["notes"] += [
            {"note": line} for line in degenerate.ambiguities(weights, cut, network.matrices)
        ]
    return found


def context_counts(task: Task, batch: Batch) -> dict[str, np.ndarray]:
    """How many noise and how many correct tokens followed this trigger before each answer."""
    tokens, positions = np.asarray(batch.tokens), np.asarray(batch.positions)
    trigger = np.take_along_axis(tokens, positions, axis=1)
    previous = np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    seen = np.arange(tokens.shape[1])[None, None] <= positions[:, :, None]
    follows = seen & (previous[:, None] == trigger[:, :, None])
    noise = np.isin(tokens, task.noise)[:, None]
    correct = tokens[:, None] == np.asarray(batch.correct)[:, :, None]
    return {
        "noise_in_context": np.sum(follows & noise, axis=2),
        "correct_in_context": np.sum(follows & correct, axis=2),
    }


def _factors(scorer: Scorer, cut: Intervention) -> dict[str, Any]:
    """What storing the cut as factors saves; times are the best of five passes each."""
    params, rows = factored.apply(scorer.decompositions, cut)
    whole, examples = scorer.decompositions.made(cut), scorer.examples.select(np.arange(64))
    run = jax.jit(functools.partial(search_network.scores, scorer.network))
    losses, seconds = [], []
    for variant in (whole, params):
        losses.append(run(variant, examples)["loss"].block_until_ready())
        times = []
        for _ in range(5):
            started = time.perf_counter()
            run(variant, examples)["loss"].block_until_ready()
            times.append(time.perf_counter() - started)
        seconds.append(min(times))
    return {
        "intervention": str(cut),
        "factored": any(row["factored"] for row in rows),
        "parameters_before": sum(row["parameters_before"] for row in rows),
        "parameters_after": sum(row["parameters_after"] for row in rows),
        "largest_loss_difference": float(jnp.max(jnp.abs(losses[1] - losses[0]))),
        "seconds_dense": seconds[0],
        "seconds_factored": seconds[1],
        "time_ratio": seconds[1] / seconds[0],
    }


def _named(setup: Setup, token: int) -> str:
    if token in setup.task.noise:
        return "noise"
    if token in setup.task.triggers:
        return "trigger"
    symbols = setup.language.symbols
    return repr(symbols[token]) if symbols else str(token)
