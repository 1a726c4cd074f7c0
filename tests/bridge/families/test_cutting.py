"""Searching and cutting every family: candidates against forward passes of edited weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.families.test_goldens import checkpoint, golden
from tests.bridge.make import matrix_inputs
from tests.bridge.words import Words
from truncated_weights import bridge
from truncated_weights.bridge import encoding, packing, scoring, surgery
from truncated_weights.bridge import network as model
from truncated_weights.bridge.tasks import Example
from truncated_weights.truncation import editing, notation

# Every topology, activation, kind of position and way of sharing heads once.
CASES = ("gptj", "gpt2", "llama3", "qwen2_windows", "phi_groups", "phi3_long")
EXAMPLES = (
    Example("The town of Paris is in", " France", (" Spain",)),
    Example("Two words follow", " one otherword", (" the", " otherword")),
    Example("Oslo", " Norwayland", (" Spain",)),
    Example("The town of Oslo is in", " Norwayland", (" Spain", " otherword")),
)
FIGURES = ("loss", "loss_per_token", "p_the", "margin_the", "logit_difference")


@functools.cache
def encoded():
    return encoding.encode_examples(EXAMPLES, Words(longest=6), num_tokens=50)


# Parallel, and one after the other with a gate.
SOME = ("gptj", "llama3")
OTHERS = [
    pytest.param(case, True, marks=pytest.mark.thorough) for case in CASES if case not in SOME
]


@pytest.mark.parametrize(
    ("case", "packed"), [*((case, True) for case in SOME), ("gptj", False), *OTHERS]
)
def test_every_matrix_of_every_layer(case, packed, monkeypatch):
    found = checkpoint(case)
    monkeypatch.setattr(packing, "_FEWER", 2.0 if packed else 0.0)
    monkeypatch.setattr(packing, "_SPARED", -np.inf)
    scorer = surgery.scorer(found, encoded())
    (batch,) = scorer.network.pack([encoded().batch])
    assert isinstance(batch, packing.PackedBatch) == packed
    keys = list(scorer.network.matrices)
    gate = 1 if found.config.gated else 0
    products = 1 if found.config.groups == found.config.num_heads else 0
    assert len(keys) == found.config.num_layers * (6 + gate + products)
    candidates = notation.candidates(keys, ["0.3"])
    scores = scorer.evaluate(candidates, np.arange(4))
    for index, candidate in enumerate(candidates):
        edited = editing.apply(found.params, candidate, surgery.matrices(found.config))
        expected = scoring.evaluate(edited, found.config, encoded())
        for name in FIGURES:
            np.testing.assert_allclose(
                scores[name][index, :, 0], expected[name], rtol=5e-5, atol=2e-5
            )


@pytest.mark.parametrize("case", ["gptj", "llama3_tied", "phi3", "roberta"])
def test_what_matrices_read_is_what_their_gradients_say(case):
    """The gradient of a loss is input^T (gradient at the output), for every matrix."""
    found, recorded = checkpoint(case), golden(case)
    config, names = found.config.of_layer(0), found.config.matrices
    tokens, mask = (jnp.asarray(recorded[f"none_{key}"]) for key in ("tokens", "mask"))
    context = model.context_of(mask)
    x = model.embed(found.params, config, tokens, context.positions)
    first = found.params["layers"][0]
    inputs = matrix_inputs(first, config, x, context)
    assert set(inputs) == set(names)

    def loss(kernels, biases):
        layer = first | {n: {"kernel": kernels[n], "bias": biases[n]} for n in names}
        return jnp.sum(jnp.sin(model.layer(layer, config, x, context)))

    kernels = {name: first[name]["kernel"] for name in names}
    biases = {}
    for name in names:
        zero = jnp.zeros((*tokens.shape, kernels[name].shape[1]))
        biases[name] = model.add_bias(first[name], zero)
    by_kernel, by_output = jax.grad(loss, argnums=(0, 1))(kernels, biases)
    for name in names:
        expected = jnp.einsum("bli,blo->io", inputs[name], by_output[name], precision="highest")
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(by_kernel[name], expected, rtol=0, atol=2e-5 * scale)


def test_cut_by_name():
    llama = checkpoint("llama3")
    gate = bridge.cut(llama, "-1.laser:fc_in@0.25").params["layers"][1]["fc_gate"]["kernel"]
    assert np.linalg.matrix_rank(gate, tol=1e-4) == 8
    same = bridge.cut(llama, "1.fc_gate@0.25")
    np.testing.assert_array_equal(same.params["layers"][1]["fc_gate"]["kernel"], gate)
    assert same.config == llama.config
    assert same.directory == llama.directory
    untouched = bridge.cut(llama, "0.fc_in@1")
    np.testing.assert_array_equal(
        untouched.params["layers"][0]["fc_in"]["kernel"],
        llama.params["layers"][0]["fc_in"]["kernel"],
    )


def test_ov_where_every_head_has_values_of_its_own():
    found = checkpoint("llama2")
    after = bridge.cut(found, "1.ov@0.25")
    layer = after.params["layers"][1]
    heads = found.config.num_heads
    values = np.asarray(layer["v_proj"]["kernel"]).reshape(32, heads, -1)
    out = np.asarray(layer["out_proj"]["kernel"]).reshape(heads, -1, 32)
    total = sum(values[:, h] @ out[h] for h in range(heads))
    before = found.params["layers"][1]
    u, s, vt = np.linalg.svd(
        np.asarray(before["v_proj"]["kernel"]) @ np.asarray(before["out_proj"]["kernel"])
    )
    np.testing.assert_allclose(total, u[:, :8] * s[:8] @ vt[:8], atol=2e-5)
    with pytest.raises(ValueError, match="ov: 4 heads share 2 groups of values"):
        bridge.cut(checkpoint("llama3"), "1.ov@0.25")
    with pytest.raises(ValueError, match="layer 0 has only q_proj"):
        bridge.cut(checkpoint("gpt2"), "0.fc_gate@0.1")


def test_greedy_cuts_a_product_or_its_factors_but_not_both():
    found = checkpoint("gptj")
    outcome = bridge.search(
        found,
        encoded(),
        rule="greedy",
        matrices=("v_proj", "out_proj", "ov"),
        rhos=("0.5", "-0.1"),
        objective="loss",
        validation=0.7,
    )
    for layer in range(found.config.num_layers):
        names = {cut.matrix for cut in outcome.best.cuts if cut.layer == layer}
        assert not ("ov" in names and names & {"v_proj", "out_proj"})
    assert outcome.rows[0]["validation/loss"] > outcome.rows[-1]["validation/loss"]
    with pytest.raises(ValueError, match="no entries of its own"):
        bridge.cut(found, "0.ov@magnitude:0.5")


def test_a_shared_norm_reaches_both_its_readers():
    """One array: changing it changes what attention reads and what the feed-forward reads."""
    found, recorded = checkpoint("gptj"), golden("gptj")
    tokens, mask = (jnp.asarray(recorded[f"none_{key}"]) for key in ("tokens", "mask"))
    context = model.context_of(mask)
    x = model.embed(found.params, found.config, tokens, context.positions)
    first = found.params["layers"][0]
    norm = {**first["attn_norm"], "scale": 2 * first["attn_norm"]["scale"]}
    before, after = (
        matrix_inputs(layer, found.config, x, context)
        for layer in (first, {**first, "attn_norm": norm})
    )
    for name in ("q_proj", "fc_in"):
        assert float(jnp.max(jnp.abs(before[name] - after[name]))) > 0.1
    assert dataclasses.replace(found.config, shared_norm=False) != found.config


def test_a_masked_model_is_asked_where_its_masks_are():
    """Every token of an answer hidden at once; log-probabilities from the logits there."""
    found, words = checkpoint("roberta"), Words(longest=6)
    size = found.config.vocab_size
    masked = encoding.encode_examples(
        EXAMPLES, words, num_tokens=size, prefix=(57,), mask_token=60, suffix=(58,)
    )
    scores = scoring.evaluate(found.params, found.config, masked)
    for index, example in enumerate(EXAMPLES):
        prompt, answer = words(example.prompt), words(example.answer)
        text = np.array([[57, *prompt, *[60] * len(answer), 58]])
        # The mask is given because one of these ids is what RoBERTa pads with.
        logits = bridge.logits(found, text, mask=np.ones_like(text, bool))
        logits = np.asarray(logits, np.float64)[0, 1 + len(prompt) :, :size]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        loss = -sum(log_p[place, token] for place, token in enumerate(answer))
        np.testing.assert_allclose(scores["loss"][index], loss, rtol=1e-5)
    found = surgery.scorer(found, masked)
    candidates = notation.candidates([(0, "k_proj"), (1, "fc_in"), (1, "out_proj")], ["0.3"])
    cut = found.evaluate(candidates, np.arange(4))["loss"][:, :, 0]
    for index, candidate in enumerate(candidates):
        edited = bridge.cut(checkpoint("roberta"), str(candidate))
        expected = scoring.evaluate(edited.params, edited.config, masked)["loss"]
        np.testing.assert_allclose(cut[index], expected, rtol=5e-5)
