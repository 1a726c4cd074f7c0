"""A selection rule of your own, and a probe: any function of a search problem.

The rule tries every matrix without its top component and takes the best; `problem.scorer` keeps
what candidates share. The probe reads weights: how much of a matrix its top component is.
"""

import jax
import numpy as np

from truncated_weights import toy
from truncated_weights.toy import recall, surgery
from truncated_weights.truncation import parse
from truncated_weights.truncation.search.problem import SearchProblem
from truncated_weights.truncation.search.scorer import Scorer


def top_dropped(problem):
    """The matrix whose top component is best dropped, and the loss without it."""
    cuts = [parse(f"{layer}.{matrix}@-0.04") for layer, matrix in problem.scorer.network.matrices]
    loss = problem.scorer.evaluate(cuts, problem.validation)["loss"].mean(axis=(1, 2))
    return str(cuts[loss.argmin()]), float(loss.min())


def top_share(matrix):
    """The share of a matrix's energy in its top component."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] ** 2 / (values**2).sum())


run = toy.train(num_tokens=8, length=32, d_model=32, batch_size=32, steps=60, rhos=("0", "1"))
batch = recall.sample(run.setup.task, jax.random.key(1), batch_size=32, alpha=0.0)
network = surgery.RecallNetwork(run.setup.task, run.setup.model)
problem = SearchProblem(Scorer(network, run.weights, surgery.examples(batch)), (), np.arange(32))
print("best without its top:", *top_dropped(problem))
print("top share of 1.fc_out:", round(top_share(run.weights["layers"][1]["fc_out"]), 3))
