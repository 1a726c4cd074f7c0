"""Settings of a noisy-recall run, and the objects they stand for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import setup as toy_setup
from truncated_weights.toy.settings import NoisyRecall

PLAIN = NoisyRecall(
    num_tokens=6, length=8, d_model=4, steps=5, batch_size=16, seed=3, num_seeds=2,
    eval_every=5, eval_batch=4, final_batch=4, rhos=("0", "0.5"),
)  # fmt: skip


def build(**settings):
    return toy_setup.build(dataclasses.replace(PLAIN, **settings))


def test_cuts_followed_and_drawn_are_those_the_model_has():
    setup = build()
    assert [str(i) for i in setup.interventions] == [
        "1.mlp@0", "1.fc_in@0.1", "1.fc_in@0.2", "1.fc_out@0.02", "0.mlp@0",
    ]  # fmt: skip
    matrices = ["1.k_proj", "1.v_proj", "1.out_proj", "1.fc_in", "1.fc_out", "1.ov"]
    assert [str(i) for i in setup.curves] == [f"{m}@{r}" for m in matrices for r in ("0", "0.5")]


@pytest.mark.parametrize(
    "feed_forward", [("none", "none"), ("linear",), ("mlp", "linear"), ("mlp", "none", "mlp")]
)
def test_every_architecture_has_cuts_it_can_make(feed_forward):
    # build() resolves each of them against the model's matrices.
    setup = build(feed_forward=feed_forward, learned_query=True)
    assert setup.interventions
    assert len({str(i) for i in setup.curves}) == len(setup.curves)


def test_triggers_by_symbol_or_index(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcabcaab 4")
    setup = build(text=str(path), triggers=("b", "2", "4"))
    assert setup.language.symbols == (" ", "4", "a", "b", "c")
    # "2" is no symbol of the text, and so an index; "4" is one.
    assert setup.task.triggers == (3, 2, 1)


def test_devices_and_seeds():
    assert build().trainer().seeds == (3, 4)
    assert len(build().trainer().devices) == len(jax.local_devices()) == 8
    assert len(build(devices=2).trainer().devices) == 2
    with pytest.raises(ValueError, match="devices=9, but this machine has 8"):
        build(devices=9).trainer()
    with pytest.raises(ValueError, match="batch_size=12 does not divide over 8 devices"):
        build(batch_size=12).trainer()


def test_initial_scale_scales_what_the_layers_learn_and_nothing_else():
    problems = [build(initial_scale=scale).problem for scale in (1.0, 0.5)]
    (usual, frozen), (half, same) = (p.init(jax.random.key(0)) for p in problems)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, 0.5 * a), usual, half)
    jax.tree.map(np.testing.assert_array_equal, frozen, same)
    traced = problems[0].given({"initial_scale": jnp.float32(0.5)})
    jax.tree.map(np.testing.assert_array_equal, traced.init(jax.random.key(0))[0], half)


@pytest.mark.parametrize(
    "settings", [{}, {"feed_forward": ("mlp", "none"), "last_residual": False}]
)
def test_only_a_residual_that_is_there_can_be_switched_off(settings):
    with pytest.raises(ValueError, match="last_residual_steps needs a last layer without"):
        build(last_residual_steps=3, **settings)
    assert (
        build(last_residual_steps=3, feed_forward=("mlp", "none")).problem.last_residual_steps == 3
    )
