"""Slice by slice, against all at once."""

import dataclasses

import jax
import numpy as np
import pytest

from truncated_weights.toy import language, recall, recall_problem
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.toy.transformer_config import TransformerConfig


@pytest.mark.parametrize("loss_on", ["triggers", "all"])
def test_loss_and_gradient_are_those_of_the_whole_batch(loss_on, monkeypatch):
    task = recall.make_task(language.zipf(5), alpha=0.5, length=10)
    config = TransformerConfig(task.vocab_size, 10, d_model=4, d_hidden=6)
    problem = RecallProblem(task, config, 12, loss_on)
    # Runs side by side, each with an alpha of its own that is traced.
    starts = jax.vmap(problem.init)(jax.random.split(jax.random.key(0), 2))

    def descend(alpha, params, frozen, key):
        here = problem.given({"alpha": alpha})
        return jax.value_and_grad(here.loss)(params, frozen, key, lambda batch: batch)

    def found():
        keys = jax.random.split(jax.random.key(1), 2)
        alphas = np.array([0.2, 0.7], np.float32)
        return jax.jit(jax.vmap(lambda *a: descend(*a)))(alphas, *starts, keys)

    assert problem._slices() == 1
    whole = found()
    # Four sequences at a time: 4 of length 10 and 10 numbers for each pair of positions.
    monkeypatch.setattr(recall_problem, "SLICE_NUMBERS", 4 * 10 * 10)
    assert problem._slices() == 3
    assert dataclasses.replace(problem, batch_size=7)._slices() == 7
    for one, other in zip(*map(jax.tree.leaves, (whole, found())), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)
