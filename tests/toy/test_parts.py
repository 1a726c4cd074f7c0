"""Parts that a user brings: the same network where they are the usual ones, refused where wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights import toy
from truncated_weights.toy import network, parts, recall, transformer
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import build
from truncated_weights.truncation import editing

SMALL = {"num_tokens": 5, "length": 12, "d_model": 8, "batch_size": 4, "steps": 2, "devices": 1,
         "interventions": ("0.fc_in@0",), "rhos": ("0.5",), "eval_batch": 8}  # fmt: skip


def linear(scores, causal):
    """Linear attention."""
    return jnp.where(causal, 1 + scores, 0) / jnp.sum(causal, axis=-1, keepdims=True)


def softmax_by_hand(scores, causal):
    """Softmax, written another way."""
    weights = jnp.where(causal, jnp.exp(scores), 0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def trace(**more):
    setup = build(NoisyRecall(**{**SMALL, **more}))
    weights = transformer.combine(*transformer.init(setup.model, jax.random.key(0)))
    batch = recall.sample(setup.task, jax.random.key(1), batch_size=3)
    return setup, weights, batch, network.run(setup.model, weights, batch.tokens, batch.positions)


def test_the_usual_parts_by_another_name_are_the_usual_network():
    usual = trace()[-1].logits
    here = f"{__name__}:softmax_by_hand"
    np.testing.assert_allclose(trace(attention=here)[-1].logits, usual, atol=1e-5)
    np.testing.assert_allclose(trace(activation="jax.nn:relu")[-1].logits, usual, atol=1e-6)


def test_an_attention_of_ones_own_is_what_it_says():
    """One layer by NumPy in the plainest form: every query by itself."""
    setup, weights, batch, found = trace(attention=f"{__name__}:linear", feed_forward=("none",),
                                         interventions=("0.ov@0",))  # fmt: skip
    x = np.asarray(network.embed(setup.model, weights, batch.tokens), np.float64)
    own = {k: np.asarray(v, np.float64) for k, v in weights["layers"][0].items()}
    expected = []
    for row, positions in zip(x, np.asarray(batch.positions), strict=True):
        for t in positions:
            scores = (row[: t + 1] @ own["k_proj"]) @ row[t] / np.sqrt(8)
            mixed = ((1 + scores) / (t + 1)) @ row[: t + 1]
            h = row[t] + mixed @ own["v_proj"] @ own["out_proj"]
            expected.append(h @ np.asarray(weights["unembed"], np.float64))
    np.testing.assert_allclose(
        np.asarray(found.logits).reshape(len(expected), -1), expected, atol=1e-4
    )


def test_a_run_trains_cuts_and_is_opened_again_with_them(tmp_path):
    run = toy.train(attention=linear, activation="gelu", **SMALL)
    assert run.config.attention == f"{__name__}:linear"
    assert np.isfinite(run.models.p_noise.sel(model="0.fc_in@0")).all()
    cut = editing.apply(run.weights, "0.fc_in@0.5", transformer.matrices(run.setup.model))
    assert jax.tree.structure(cut) == jax.tree.structure(run.weights)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attention": "sparse"}, "attention 'sparse' is not known; known are softmax, or MODULE"),
        ({"activation": "nowhere.at:all"}, "cannot be imported"),
        ({"activation": "math:pi"}, "'math:pi' is no function"),
        ({"attention": lambda scores, causal: scores}, "give a function of a module"),
    ],
)
def test_what_cannot_be_imported_is_refused_before_any_work(settings, said):
    with pytest.raises(ValueError, match=said):
        toy.train(**SMALL, **settings)
    assert parts.spelled(linear) == f"{__name__}:linear"
