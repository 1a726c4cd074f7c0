"""What was cut says: predictions from the kept part alone and from the removed part alone.

And which answers flip each way when a cut is made, by any property of the answer (how many
noise tokens its context holds, how frequent its fact is). The analyses of LASER, section 5
of arXiv 2312.13558, for any intervention of any model.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.finite import NotFiniteError, lost, or_none
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.scorer import Scorer

PARTS = ("full", "kept", "removed")


def part(decompositions: Decompositions, intervention: Intervention, which: str) -> Params:
    """Parameters with everything, only what the intervention keeps, or only what it removes."""
    if which not in PARTS:
        raise ValueError(f"which {which!r}: expected {' '.join(PARTS)}")
    if which == "full":
        return decompositions.params
    return decompositions.made(intervention, removed=which == "removed")


def mean_probabilities(scorer: Scorer, params: Params, examples: np.ndarray) -> np.ndarray:
    """Predicted probabilities [classes], averaged over the answers of these examples."""
    network = scorer.network
    if network.probabilities is None:
        raise ValueError("probabilities: this network does not offer them")
    total: Any = 0.0
    for batch in scorer.examples.batches(examples):
        stream = scorer.streams.before(params, network.last, batch)
        law = network.probabilities(params, stream, batch.data)
        total = total + np.asarray(_weighted_sum(law, batch.weights), np.float64)
    return np.asarray(total / scorer.weights(examples).sum(dtype=np.float64))


@jax.jit
def _weighted_sum(law: Any, weights: Any) -> Any:
    return jnp.einsum("eac,ea->c", law, weights)


def report(
    scorer: Scorer, intervention: Intervention, examples: np.ndarray, *, top: int = 5
) -> list[dict[str, Any]]:
    """One row per part (full, kept, removed): mean scores and, if offered, the top classes.

    top_classes and top_probabilities list the classes of highest mean probability. Of a part that
    leaves the finite numbers scores are None and the lists empty.
    """
    rows = []
    for which in PARTS:
        params = part(scorer.decompositions, intervention, which)
        scores = scorer.of_params(params, examples)
        row: dict[str, Any] = {"intervention": str(intervention), "part": which}
        row |= {name: or_none(v) for name, v in scorer.mean(scores, examples).items()}
        if scorer.network.probabilities is not None:
            probabilities = mean_probabilities(scorer, params, examples)
            classes = np.argsort(-probabilities, kind="stable")[:top]
            # A part alone may leave the finite numbers; then it says nothing.
            classes = classes[: top if np.isfinite(probabilities).all() else 0]
            row["top_classes"] = classes.tolist()
            row["top_probabilities"] = probabilities[classes].tolist()
        rows.append(row)
    return rows


def flips(
    before: np.ndarray,
    after: np.ndarray,
    weights: np.ndarray,
    covariates: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    samples: int = 2000,
) -> list[dict[str, Any]]:
    """How often answers flip wrong -> right and right -> wrong, by level of each covariate.

    before, after: accuracy (0 or 1) [examples, answers] without and with the cut;
    covariates: integers [examples, answers]. One row over all answers (covariate "all")
    and one per covariate and level that occurs, with 95 % intervals that resample examples.
    Raises NotFiniteError where an answer that counts is neither right nor wrong.
    """
    for accuracy in (before, after):
        if lost({"accuracy": accuracy}, weights):
            raise NotFiniteError("flips: an accuracy is not finite")
    directions = {
        "wrong_to_right": ((before < 0.5) & (after > 0.5)).astype(np.float64),
        "right_to_wrong": ((before > 0.5) & (after < 0.5)).astype(np.float64),
    }
    groups = [("all", 0, weights > 0)]
    for name, levels in covariates.items():
        for level in np.unique(levels[weights > 0]):
            groups.append((name, int(level), (levels == level) & (weights > 0)))
    rows = []
    for name, level, members in groups:
        row: dict[str, Any] = {"covariate": name, "level": level, "answers": int(members.sum())}
        for direction, flipped in directions.items():
            interval = statistics.paired_bootstrap(
                flipped[None], weights * members, seed=seed, samples=samples
            )
            row[direction] = float(interval.mean[0])
            row[direction + "_low"] = float(interval.low[0])
            row[direction + "_high"] = float(interval.high[0])
        rows.append(row)
    return rows
