"""The records kept along training: full and truncated models on clean and noisy sequences.

Each is a Measure of training/trainer.py: a pure function of (problem, params, frozen, key).
"""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, PRNGKeyArray

from truncated_weights.toy import network, recall, transformer
from truncated_weights.toy.layer import Hooks, Weights
from truncated_weights.toy.probes import cuts, mechanisms, spectra, truncated
from truncated_weights.toy.recall import Batch, Task
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training.records import Name, name
from truncated_weights.training.trainer import Measure
from truncated_weights.truncation.notation import Intervention


def evaluation_sets(task: Task, key: PRNGKeyArray, *, batch_size: int) -> dict[str, Batch]:
    """The same draws with and without noise; only what noise leads to differs.

    Where outputs are held out, `heldout` is clean with these instead of the trained ones.
    """
    sets = {
        "clean": recall.sample(task, key, batch_size=batch_size, alpha=0.0),
        "noisy": recall.sample(task, key, batch_size=batch_size),
    }
    if task.held_out is not None:
        unseen = recall.with_held_out(task)
        sets["heldout"] = recall.sample(unseen, key, batch_size=batch_size, alpha=0.0)
    return sets


def measure_models(
    interventions: Sequence[Intervention],
    *,
    batch_size: int,
    variants: Sequence[str] = (),
) -> Measure:
    """Measure the full model (outputs.full_model) and every truncated one on both sets.

    Variables by set and model, and by set `dropped`, the number of scored positions that did not
    fit. variants: models of the same weights under other options, as 0.no_relu, named like an
    intervention.
    """

    def measure(
        problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> Mapping[Name, Array]:
        task, config = problem.task, problem.config
        weights = transformer.combine(params, frozen)
        sets = evaluation_sets(task, key, batch_size=batch_size)
        full, cut, lost = truncated.measure(
            task,
            config,
            weights,
            sets,
            interventions,
            variants=[cuts.variant(config, name) for name in variants],
        )
        results: dict[Name, Array] = {}
        for part, batch in sets.items():
            results[name("dropped", set=part)] = batch.dropped + lost[part]
            for found, value in full[part].items():
                results[found.within(set=part, model="full")] = value
            for metric, values in cut[part].items():
                for index, model in enumerate((*interventions, *variants)):
                    results[name(metric, set=part, model=model)] = values[index]
        return results

    return measure


def measure_mechanisms(
    problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
) -> Mapping[Name, Array]:
    """Memory recalls and feed-forward margins, which need no data."""
    task, config = problem.task, problem.config
    weights = transformer.combine(params, frozen)
    margins = mechanisms.feed_forward_margins(task, config, weights)
    bigrams = mechanisms.bigram_divergences(task, config, weights)
    recalls = mechanisms.recalls(task, config, weights)
    return {
        **{
            name(variable, feed_forward=part): value
            for variable, found in bigrams.items()
            for part, value in found.items()
        },
        **{name("recall", association=part): value for part, value in recalls.items()},
        **{name("feed_forward_margin", feed_forward=part): v for part, v in margins.items()},
    }


def measure_bigrams(*, batch_size: int) -> Measure:
    """loss: nats per next token away from triggers, on noisy sequences.

    Beside it the same without the feed-forwards (without_feed_forwards), without each of several
    (without_feed_forward_0, ...) and without the last layer's attention (without_last_attention),
    and the entropy of the law itself (entropy), which no model can go below.
    """

    def measure(
        problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> Mapping[Name, Array]:
        task, config = problem.task, problem.config
        weights = transformer.combine(params, frozen)
        batch = recall.sample(task, key, batch_size=batch_size)
        elsewhere = ~batch.at_trigger
        fed_layers = [i for i, kind in enumerate(config.feed_forward) if kind != "none"]

        def nothing(inputs: Array, apply: Callable[[Array], Array]) -> Array:
            return jnp.zeros_like(apply(inputs))

        fed = {i: {(i, config.feed_forward_names(i)[-1]): nothing} for i in fed_layers}
        variants: dict[str, Hooks] = {
            "loss": {},
            "without_feed_forwards": {
                key: hook for one in fed.values() for key, hook in one.items()
            },
            "without_last_attention": {(config.num_layers - 1, "out_proj"): nothing},
        }
        if len(fed) > 1:
            variants |= {f"without_feed_forward_{i}": hooks for i, hooks in fed.items()}
        found = {}
        for variant, hooks in variants.items():
            logits = network.run(config, weights, batch.tokens, None, hooks).logits
            nats = -recall.log_likelihood(logits, batch.following)
            found[name(variant)] = jnp.mean(nats, where=elsewhere)
        if isinstance(task.transition, np.ndarray):
            rows = -np.sum(scipy.special.xlogy(task.transition, task.transition), axis=1)
            entropy = jnp.asarray(rows, jnp.float32)[batch.tokens]
            found[name("entropy")] = jnp.mean(entropy, where=elsewhere)
        return found

    return measure


def measure_spectra(
    problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
) -> Mapping[Name, Array]:
    """The singular values of every matrix and where the noise direction sits."""
    return spectra.spectra(problem.task, problem.config, transformer.combine(params, frozen))
