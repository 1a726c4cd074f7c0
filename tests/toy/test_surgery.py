import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import language, recall, surgery, transformer
from truncated_weights.toy import network as toy_network
from truncated_weights.toy.probes.outputs import predictions
from truncated_weights.truncation import editing, factored, notation
from truncated_weights.truncation.rules import eigenprune
from truncated_weights.truncation.search import network
from truncated_weights.truncation.search.scorer import Scorer

VARIANTS = {
    "mlp": {},
    "linear": {"feed_forward": ("linear", "linear"), "feed_forward_residual": False},
    "mixed": {"feed_forward": ("mlp", "none"), "learned_query": True, "attention_residual": False},
    "three": {"feed_forward": ("none", "linear", "mlp"), "learned_query": True},
    "heads": {"num_heads": 2, "positions": "rotary", "layer_norm": True},
}


@functools.cache
def build(variant):
    """One number of sequences for all: another one would compile every operation again."""
    task = recall.make_task(language.zipf(12), alpha=0.3, length=24)
    config = transformer.TransformerConfig(
        vocab_size=task.vocab_size, length=24, d_model=16, **VARIANTS[variant]
    )
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    # Larger than at the start, so that every block matters.
    weights["layers"] = jax.tree.map(lambda w: 2 * w, weights["layers"])
    batch = recall.sample(task, jax.random.key(1), batch_size=12)
    return task, config, weights, batch, surgery.RecallNetwork(task, config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_the_transformer_and_stops_anywhere(variant):
    # Piece by piece without compiling each: the formulas are the same.
    built = build(variant)
    with jax.disable_jit():
        check_every_stop(variant, *built)


def check_every_stop(variant, task, config, weights, batch, net):
    logits = toy_network.run(config, weights, batch.tokens, batch.positions).logits
    expected = predictions(task, logits, batch)
    data = surgery.examples(batch).data
    found = network.scores(net, weights, data)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, rtol=2e-5, err_msg=name)
    streams = [network.prefix(net, weights, n, data) for n in range(config.num_layers)]
    law = net.probabilities(weights, streams[-1], data)
    np.testing.assert_allclose(law, jax.nn.softmax(logits), atol=2e-5, rtol=2e-5)
    for key, address in net.matrices.items():
        stopped = net.stop(weights, key, streams[key[0]], data)
        outputs = stopped.inputs @ address.read(weights)
        found = net.resume(weights, key, outputs, stopped.rest, data)
        np.testing.assert_allclose(
            found["loss"], expected["loss"], atol=1e-4, err_msg=f"{key} of {variant}"
        )


def test_searches_like_one_candidate_at_a_time():
    _, _, weights, batch, net = build("mlp")
    examples = surgery.examples(batch)
    keys = [(0, "k_proj"), (0, "fc_in"), (1, "ov"), (1, "fc_out")]
    candidates = notation.candidates(keys, ["0.5", "-0.2", "0", "magnitude:0.3"])
    candidates = [one for one in candidates if str(one) != "1.ov@magnitude:0.3"]
    found = Scorer(net, weights, examples, together=2).evaluate(candidates, np.arange(12))
    for index, candidate in enumerate(candidates):
        edited = editing.apply(weights, candidate, net.matrices)
        expected = network.scores(net, edited, examples.data)
        for name in expected:
            np.testing.assert_allclose(
                found[name][index],
                expected[name],
                rtol=1e-5,
                atol=5e-5,
                err_msg=f"{candidate} {name}",
            )


def test_factors_and_biases_run():
    _, _, weights, batch, net = build("mlp")
    scorer, indices = Scorer(net, weights, surgery.examples(batch)), np.arange(12)
    cut = notation.parse("0.v_proj@0.2+1.fc_in@0.2+1.k_proj@0.3")
    thin, rows = factored.apply(scorer.decompositions, cut)
    assert all(row["factored"] for row in rows)
    np.testing.assert_allclose(
        scorer.of_params(thin, indices)["loss"], scorer.full(indices, cut)["loss"], atol=5e-5
    )
    # A bias that stands for a removed constant part: the whole matrix, on its mean input.
    keys = list(net.matrices)[:-1]
    masks = {key: np.zeros(16, np.float32) for key in keys if key[1] == "fc_out"}
    choice = eigenprune.prune(scorer, "all", masks, compensate_on=indices)
    pruned = choice.params(scorer.decompositions)
    data = scorer.examples.data
    for layer in range(2):
        leaf = pruned["layers"][layer]["fc_out"]
        x = network.prefix(net, pruned, layer, data)
        stopped = net.stop(pruned, (layer, "fc_out"), x, data)
        inputs = np.asarray(stopped.inputs)[np.asarray(stopped.valid)]
        expected = (inputs @ weights["layers"][layer]["fc_out"]).mean(axis=0)
        np.testing.assert_allclose(leaf["bias"], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["v_proj", "out_proj", "fc_in"])
def test_a_matrix_with_a_bias_goes_on_with_it(name):
    _, _, weights, batch, net = build("mlp")
    with jax.disable_jit():
        check_bias(name, weights, batch, net)


def check_bias(name, weights, batch, net):
    data, added = surgery.examples(batch).data, jnp.linspace(-1, 1, 64 if name == "fc_in" else 16)
    weights = net.matrices[1, name].add_bias(weights, added)
    expected = network.scores(net, weights, data)["loss"]
    x = network.prefix(net, weights, 1, data)
    # The product's own bias is that of its two factors.
    for key in {(1, name), (1, "ov" if name in ("v_proj", "out_proj") else name)}:
        stopped = net.stop(weights, key, x, data)
        outputs = stopped.inputs @ net.matrices[key].read(weights)
        found = net.resume(weights, key, outputs, stopped.rest, data)["loss"]
        np.testing.assert_allclose(found, expected, atol=5e-5)


def test_sequences_in_batches_are_the_same_sequences():
    _, _, weights, batch, net = build("mlp")
    indices = np.arange(1, 12)
    whole, parts = (
        Scorer(net, weights, surgery.examples(batch, batch_size=size)).full(indices)["loss"]
        for size in (None, 5)
    )
    np.testing.assert_allclose(parts, whole, atol=1e-5)
