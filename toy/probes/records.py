"""The records kept along training: full and truncated models on clean and noisy sequences.

Each is a Measure of training/trainer.py: a pure function of (problem, params, frozen, key).
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Array, PRNGKeyArray

from toy import recall, transformer
from toy.layer import Weights
from toy.probes import mechanisms, outputs, spectra
from toy.recall import Batch, Task
from toy.recall_problem import RecallProblem
from training.trainer import Measure
from truncation.notation import Intervention


def evaluation_sets(task: Task, key: PRNGKeyArray, *, batch_size: int) -> dict[str, Batch]:
    """The same draws with and without noise; only what noise leads to differs."""
    return {
        "clean": recall.sample(task, key, batch_size=batch_size, alpha=0.0),
        "noisy": recall.sample(task, key, batch_size=batch_size),
    }


def measure_models(
    interventions: Sequence[Intervention], *, batch_size: int, at_once: int = 8
) -> Measure:
    """Measure the full model (outputs.full_model) and every truncated one on both sets.

    Arrays are named SET/full/METRIC and SET/INTERVENTION/METRIC, and SET/dropped is the
    number of scored positions that did not fit.
    """

    def measure(
        problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> Mapping[str, Array]:
        task, config = problem.task, problem.config
        weights = transformer.combine(params, frozen)
        sets = evaluation_sets(task, key, batch_size=batch_size)
        results: dict[str, Array] = {}
        for name, batch in sets.items():
            for metric, value in outputs.full_model(task, config, weights, batch).items():
                results[f"{name}/full/{metric}"] = value
            results[f"{name}/dropped"] = batch.dropped
        if interventions:
            truncated = outputs.truncated_models(
                task, config, weights, sets, interventions, at_once=at_once
            )
            for name, metrics in truncated.items():
                for metric, values in metrics.items():
                    for index, intervention in enumerate(interventions):
                        results[f"{name}/{intervention}/{metric}"] = values[index]
        return results

    return measure


def measure_mechanisms(
    problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
) -> Mapping[str, Array]:
    """Memory recalls and feed-forward margins, which need no data."""
    task, config = problem.task, problem.config
    weights = transformer.combine(params, frozen)
    margins = mechanisms.feed_forward_margins(task, config, weights)
    return {
        **{f"recall/{k}": v for k, v in mechanisms.recalls(task, config, weights).items()},
        **{f"feed_forward_margin/{k}": v for k, v in margins.items()},
    }


def measure_spectra(
    problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
) -> Mapping[str, Array]:
    """The singular values of every matrix and where the noise direction sits."""
    return spectra.spectra(problem.task, problem.config, transformer.combine(params, frozen))
