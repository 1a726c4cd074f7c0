"""Memories written by hand, so that every recall and margin is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from truncated_weights.toy import language, recall
from truncated_weights.toy.probes import mechanisms
from truncated_weights.toy.transformer import TransformerConfig

LENGTH = 5


@pytest.fixture
def task():
    return recall.make_task(language.uniform(5), alpha=0.5, length=LENGTH, num_triggers=2)


def blank(task, feed_forward=("linear", "linear")):
    """Zero matrices; tokens, positions, marks and outputs on axes of their own."""
    vocab = task.vocab_size
    d = 3 * vocab + LENGTH
    config = TransformerConfig(vocab, LENGTH, d_model=d, feed_forward=feed_forward, d_hidden=d)
    axes = np.eye(d, dtype=np.float32)
    names = {i: config.names(i) for i in range(config.num_layers)}
    weights = {
        "embed": axes[:vocab],
        "position": axes[vocab : vocab + LENGTH],
        "unembed": axes[2 * vocab + LENGTH :].T,
        "layers": {
            i: {n: np.zeros(config.shape(i, n), np.float32) for n in names[i]} for i in names
        },
    }
    for layer in weights["layers"].values():
        layer["v_proj"] = layer["out_proj"] = np.eye(d, dtype=np.float32)
    marks = axes[vocab + LENGTH : 2 * vocab + LENGTH]
    return config, weights, marks


def found(task, config, weights):
    weights = {**weights, "layers": dict(weights["layers"])}
    return {k: float(v) for k, v in mechanisms.recalls(task, config, to_jax(weights)).items()}


def to_jax(weights):
    return {
        **{k: jnp.asarray(weights[k]) for k in ("embed", "position", "unembed")},
        "layers": {
            i: {k: jnp.asarray(v) for k, v in layer.items()}
            for i, layer in weights["layers"].items()
        },
    }


def test_perfect_memories_are_recalled_perfectly(task):
    config, weights, marks = blank(task)
    position, embed, unembed = (weights[k] for k in ("position", "embed", "unembed"))
    first, last = weights["layers"][0], weights["layers"][1]
    # P_s W_K = P_{s+1}: the query P_t finds the key of s = t - 1.
    first["k_proj"] = position[:-1].T @ position[1:]
    first["out_proj"] = embed.T @ marks
    last["k_proj"] = marks.T @ embed
    last["out_proj"] = embed.T @ unembed.T
    assert found(task, config, weights) == {"previous_token": 1, "induction": 1, "copy": 1}


def test_wrong_memories_are_recalled_in_their_exact_share(task):
    config, weights, marks = blank(task)
    position, embed, unembed = (weights[k] for k in ("position", "embed", "unembed"))
    first, last = weights["layers"][0], weights["layers"][1]
    # Position 1 looks at position 0; position 2 and later look at themselves.
    first["k_proj"] = np.outer(position[0], position[1]) + position[2:].T @ position[2:]
    first["out_proj"] = embed.T @ marks
    # The first trigger finds its own mark, the second the mark of another token.
    one, other = task.triggers
    last["k_proj"] = np.outer(marks[one], embed[one]) + np.outer(marks[4], embed[other])
    # One output of three is copied to itself, the two others exchanged.
    a, b, c = task.outputs
    last["out_proj"] = sum(np.outer(embed[i], unembed[:, j]) for i, j in ((a, a), (b, c), (c, b)))
    got = found(task, config, weights)
    assert got == pytest.approx({"previous_token": 1 / 4, "induction": 1 / 2, "copy": 1 / 3})


def test_a_learned_query_is_applied(task):
    config, weights, marks = blank(task)
    config = TransformerConfig(
        task.vocab_size, LENGTH, d_model=config.d_model, feed_forward=("none", "none"),
        learned_query=True,
    )  # fmt: skip
    position, embed = weights["position"], weights["embed"]
    identity = np.eye(config.d_model, dtype=np.float32)
    first, last = weights["layers"][0], weights["layers"][1]
    # The same associations, held by W_Q instead of W_K.
    first["q_proj"], first["k_proj"] = position[1:].T @ position[:-1], identity
    first["out_proj"] = embed.T @ marks
    last["q_proj"], last["k_proj"] = embed.T @ marks, identity
    got = found(task, config, weights)
    assert (got["previous_token"], got["induction"]) == (1, 1)
    first["q_proj"], last["q_proj"] = identity, identity
    assert found(task, config, weights)["previous_token"] == 0


def test_what_a_model_has_not_is_not_reported(task):
    config, weights, _ = blank(task, feed_forward=("none",))
    assert set(found(task, config, weights)) == {"copy", "previous_token"}
    bare = TransformerConfig(
        task.vocab_size, LENGTH, d_model=config.d_model, feed_forward=("none",), positions="none"
    )
    assert set(found(task, bare, weights)) == {"copy"}


def test_feed_forward_margins(task):
    config, weights, _ = blank(task, feed_forward=("linear", "mlp"))
    embed, unembed = weights["embed"], weights["unembed"]
    one, other = task.triggers
    (noise,) = task.noise
    first, second = weights["layers"][0], weights["layers"][1]
    # First: +3 on noise at one trigger, +1 at the other.
    first["fc_in"] = np.outer(3 * embed[one] + embed[other], unembed[:, noise])
    # Second: hidden unit 0 reads E[q], unit 1 the noise axis, unit 2 only what is negative.
    hidden = np.eye(config.d_model, dtype=np.float32)
    second["fc_in"] = (
        np.outer(embed[one] + embed[other], hidden[0])
        + np.outer(unembed[:, noise], hidden[1])
        - np.outer(embed[one] + embed[other], hidden[2])
    )
    second["fc_out"] = (
        np.outer(hidden[0], 2 * unembed[:, 0])
        + np.outer(hidden[1], 5 * unembed[:, noise])
        + np.outer(hidden[2], 100 * unembed[:, noise])
    )
    got = mechanisms.feed_forward_margins(task, config, to_jax(weights))
    assert {k: float(v) for k, v in got.items()} == pytest.approx(
        # Alone it gives token 0 a logit of 2; after the first, noise 15 - 2 and 5 - 2.
        {"0": (3 + 1) / 2, "1": -2.0, "0+1": ((15 - 2) + (5 - 2)) / 2, "0>1": (15 + 5) / 2}
    )


def test_margin_takes_the_largest_of_several_noise_tokens():
    task = recall.make_task(language.uniform(5), alpha=0.5, length=LENGTH, num_noise=2)
    config, weights, _ = blank(task, feed_forward=("linear",))
    (trigger,), (one, other) = task.triggers, task.noise
    logits = np.array([1, 4, 2, 0, 3])[: task.vocab_size - 2]
    wanted = sum(z * weights["unembed"][:, k] for k, z in enumerate(logits))
    wanted = wanted + 7 * weights["unembed"][:, one] + 9 * weights["unembed"][:, other]
    weights["layers"][0]["fc_in"] = np.outer(weights["embed"][trigger], wanted).astype(np.float32)
    got = mechanisms.feed_forward_margins(task, config, to_jax(weights))
    assert list(got) == ["0"]
    assert float(got["0"]) == pytest.approx(9 - 4)


def test_bigram_divergences_are_those_of_the_laws():
    task = recall.make_task(language.zipf(5), alpha=0.5, length=LENGTH, num_triggers=2)
    config, weights, _ = blank(task, feed_forward=("linear", "mlp"))
    vocab, unembed = task.vocab_size, weights["unembed"]
    # The first feed-forward says the law itself; the second says nothing.
    log_law = np.log(np.maximum(task.transition, 1e-9))
    weights["layers"][0]["fc_in"] = (weights["embed"].T @ log_law @ unembed.T).astype(np.float32)
    found = mechanisms.bigram_divergences(task, config, to_jax(weights))
    law = np.where(np.isin(np.arange(vocab), task.triggers), 0, task.initial)
    rows = [stats.entropy(row, np.full(vocab, 1 / vocab)) for row in task.transition]
    uniform = np.average(rows, weights=law)
    even = np.mean([row for row, weight in zip(rows, law, strict=True) if weight > 0])
    assert uniform > 0.01
    assert abs(even - uniform) > 1e-3
    expected = {"bigram_kl": uniform, "bigram_kl_even": even}
    assert set(found) == set(expected)
    for name, kl in expected.items():
        wanted = {"0": 0.0, "1": kl, "uniform": kl}
        assert {k: float(v) for k, v in found[name].items()} == pytest.approx(wanted, abs=1e-5)
