import dataclasses

import jax
import numpy as np
import pytest

from toy import language, network, recall, surgery, transformer
from toy.probes.outputs import predictions
from truncation import factored
from truncation import intervention as iv
from truncation.rules import eigenprune
from truncation.search import evaluator as search
from truncation.search.evaluator import Evaluator

VARIANTS = {
    "mlp": {},
    "linear": {"feed_forward": ("linear", "linear"), "feed_forward_residual": False},
    "mixed": {"feed_forward": ("mlp", "none"), "learned_query": True, "attention_residual": False},
    "three": {"feed_forward": ("none", "linear", "mlp"), "learned_query": True},
    "heads": {"num_heads": 2, "positions": "rotary", "layer_norm": True},
}


def build(variant, *, num_sequences=12):
    task = recall.make_task(language.zipf(12), alpha=0.3, length=24)
    config = transformer.TransformerConfig(
        vocab_size=task.vocab_size, length=24, d_model=16, **VARIANTS[variant]
    )
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    # Larger than at the start, so that every block matters.
    weights["layers"] = jax.tree.map(lambda w: 2 * w, weights["layers"])
    batch = recall.sample(task, jax.random.key(1), batch_size=num_sequences)
    return task, config, weights, batch, surgery.model(task, config, batch)


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_the_transformer_and_stops_anywhere(variant):
    task, config, weights, batch, model = build(variant)
    logits = network.run(config, weights, batch.tokens, batch.positions).logits
    expected = predictions(task, logits, batch)
    examples = model.select(np.arange(12))
    found = model.scores(weights, examples)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(
        model.probabilities(weights, examples), jax.nn.softmax(logits), atol=2e-5, rtol=2e-5
    )
    for key, address in model.matrices.items():
        entry = model.stop(weights, key, examples)
        outputs = entry.inputs @ address.read(weights)
        found = model.leave(weights, key, outputs, entry.rest, examples)
        np.testing.assert_allclose(
            found["loss"], expected["loss"], atol=1e-4, err_msg=f"{key} of {variant}"
        )


def test_searches_like_one_candidate_at_a_time():
    _, _, weights, _, model = build("mlp")
    keys = [(0, "k_proj"), (0, "fc_in"), (1, "ov"), (1, "fc_out")]
    candidates = search.candidates(keys, ["0.5", "-0.2", "0"])
    indices = np.arange(12)
    found = Evaluator(model, weights, together=2).evaluate(candidates, indices)
    run = jax.jit(model.scores)
    for index, candidate in enumerate(candidates):
        edited = iv.apply(weights, candidate, model.matrices)
        expected = run(edited, model.select(indices))
        for name in expected:
            np.testing.assert_allclose(
                found[name][index], expected[name], atol=5e-5, err_msg=f"{candidate} {name}"
            )


def test_factors_and_biases_run():
    _, _, weights, _, model = build("mlp", num_sequences=8)
    evaluator, indices = Evaluator(model, weights), np.arange(8)
    cut = iv.parse("0.v_proj@0.2+1.fc_in@0.2+1.k_proj@0.3")
    thin, rows = factored.apply(evaluator, cut)
    assert all(row["factored"] for row in rows)
    np.testing.assert_allclose(
        evaluator.model_scores(thin, indices)["loss"],
        evaluator.model_scores(evaluator.edited(cut), indices)["loss"],
        atol=5e-5,
    )
    # A bias that stands for a removed constant part: the whole matrix, on its mean input.
    keys = list(model.matrices)[:-1]
    masks = {key: np.zeros(16, np.float32) for key in keys if key[1] == "fc_out"}
    pruned = eigenprune.apply(evaluator, eigenprune.Pruning(masks), compensate_on=indices)
    for layer in range(2):
        leaf = pruned["layers"][layer]["fc_out"]
        entry = model.stop(pruned, (layer, "fc_out"), model.select(indices))
        inputs = np.asarray(entry.inputs)[np.asarray(entry.valid)]
        expected = (inputs @ weights["layers"][layer]["fc_out"]).mean(axis=0)
        np.testing.assert_allclose(leaf["bias"], expected, atol=1e-4)


def test_sequences_in_batches_are_the_same_sequences():
    _, _, weights, _, model = build("mlp")
    batched = dataclasses.replace(model, batch_size=5)
    indices = np.arange(1, 12)
    expected = Evaluator(model, weights).full(indices)["loss"]
    np.testing.assert_allclose(
        Evaluator(batched, weights).full(indices)["loss"], expected, atol=1e-5
    )
