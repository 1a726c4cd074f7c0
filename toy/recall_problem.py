"""Training the Transformer on noisy in-context recall: the loss, and what is measured."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from toy import mechanisms, network, probes, recall, spectra, transformer
from toy.recall import Batch, Task
from toy.transformer import TransformerConfig, Weights
from training.loop import Measure, Shard
from truncation.intervention import Intervention


@dataclasses.dataclass(frozen=True, eq=False)
class RecallProblem:
    """A training problem (see training/loop.py): mean cross-entropy at scored positions."""

    task: Task
    config: TransformerConfig
    batch_size: int

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Trained and frozen weights at the start."""
        return transformer.init(self.config, key)

    def loss(
        self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Cross-entropy in nats on a fresh noisy batch."""
        batch = shard(recall.sample(self.task, key, batch_size=self.batch_size))
        weights = transformer.combine(params, frozen)
        trace = network.run(self.config, weights, batch.tokens, batch.positions)
        log_p = jax.nn.log_softmax(trace.logits, axis=-1)
        labels = batch.labels[:, :, None]
        return -probes.mean(jnp.take_along_axis(log_p, labels, axis=-1)[:, :, 0], batch)


def evaluation_sets(task: Task, key: PRNGKeyArray, *, batch_size: int) -> dict[str, Batch]:
    """The same draws with and without noise; only what noise leads to differs."""
    return {
        "clean": recall.sample(task, key, batch_size=batch_size, alpha=0.0),
        "noisy": recall.sample(task, key, batch_size=batch_size),
    }


def measure_models(
    task: Task,
    config: TransformerConfig,
    interventions: Sequence[Intervention],
    *,
    batch_size: int,
    at_once: int = 8,
) -> Measure:
    """Measure the full model (probes.full_model) and every truncated one on both sets.

    Arrays are named SET/full/METRIC and SET/INTERVENTION/METRIC, and SET/dropped is the
    number of scored positions that did not fit.
    """

    def measure(params: Weights, frozen: Weights, key: PRNGKeyArray) -> Mapping[str, Array]:
        weights = transformer.combine(params, frozen)
        sets = evaluation_sets(task, key, batch_size=batch_size)
        results: dict[str, Array] = {}
        for name, batch in sets.items():
            for metric, value in probes.full_model(task, config, weights, batch).items():
                results[f"{name}/full/{metric}"] = value
            results[f"{name}/dropped"] = batch.dropped
        if interventions:
            truncated = probes.truncated_models(
                task, config, weights, sets, interventions, at_once=at_once
            )
            for name, metrics in truncated.items():
                for metric, values in metrics.items():
                    for index, intervention in enumerate(interventions):
                        results[f"{name}/{intervention}/{metric}"] = values[index]
        return results

    return measure


def measure_mechanisms(task: Task, config: TransformerConfig) -> Measure:
    """Measure memory recalls and feed-forward margins, which need no data."""

    def measure(params: Weights, frozen: Weights, key: PRNGKeyArray) -> Mapping[str, Array]:
        weights = transformer.combine(params, frozen)
        return {
            **{f"recall/{k}": v for k, v in mechanisms.recalls(task, config, weights).items()},
            **{
                f"feed_forward_margin/{k}": v
                for k, v in mechanisms.feed_forward_margins(task, config, weights).items()
            },
        }

    return measure


def measure_spectra(task: Task, config: TransformerConfig) -> Measure:
    """Measure the singular values of every matrix and where the noise direction sits."""

    def measure(params: Weights, frozen: Weights, key: PRNGKeyArray) -> Mapping[str, Array]:
        return spectra.spectra(task, config, transformer.combine(params, frozen))

    return measure
