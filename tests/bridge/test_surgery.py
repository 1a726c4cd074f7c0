"""Candidates evaluated from kept prefixes against whole forward passes of edited weights."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.make import matrix_inputs
from tests.bridge.words import Words
from truncated_weights import bridge
from truncated_weights.bridge import encoding, scoring, surgery
from truncated_weights.bridge import network as model
from truncated_weights.bridge.tasks import Example
from truncated_weights.truncation import ablation, editing, factored, notation, rules
from truncated_weights.truncation.rules import gradient_guided
from truncated_weights.truncation.search import effects, network
from truncated_weights.truncation.search.problem import SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

CONFIG = bridge.Config(
    vocab_size=64, num_layers=3, d_model=16, num_heads=2, d_ff=24, max_positions=64
)
SEQUENTIAL = dataclasses.replace(CONFIG, residual="pre")
# Answers and distractors of one and of two tokens, prompts of several lengths.
EXAMPLES = (
    Example("Madrid is in", " Spain", (" France", " Spainland")),
    Example("The town of Paris is in", " France", (" Spain",)),
    Example("Two words follow", " one otherword", (" the", " otherword")),
    Example("Oslo", " Norwayland", (" Spain",)),
)
FIGURES = ("loss", "loss_per_token", "p_the", "p_answer", "margin_the", "logit_difference")


@pytest.fixture(scope="module")
def encoded():
    return encoding.encode_examples(EXAMPLES, Words(longest=6), num_tokens=50)


@pytest.fixture(scope="module")
def params():
    start = bridge.init_params(CONFIG, key=jax.random.key(1))
    keys = iter(jax.random.split(jax.random.key(2), 99))
    return jax.tree.map(lambda w: 2 * w + 0.1 * jax.random.normal(next(keys), w.shape), start)


def entered(found, params, key, batch):
    x = network.prefix(found.network, params, key[0], batch)
    return found.network.stop(params, key, x, batch)


def searcher(params, encoded, config=CONFIG, **keywords):
    return surgery.scorer(bridge.Checkpoint(config, params), encoded, **keywords)


def brute(params, encoded, text, config=CONFIG):
    edited = editing.apply(params, text, surgery.matrices(config))
    return scoring.evaluate(edited, config, encoded)


def close(found, expected):
    for name in FIGURES:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(CONFIG, id="parallel"),
        pytest.param(SEQUENTIAL, id="sequential", marks=pytest.mark.thorough),
    ],
)
def test_every_matrix_of_every_layer(params, encoded, config):
    found = searcher(params, encoded, config)
    keys = list(found.network.matrices)
    assert len(keys) == 21
    candidates = notation.candidates(keys, ["0.5", "0"])
    scores = found.evaluate(candidates, np.arange(4))
    for i, candidate in enumerate(candidates):
        one = {name: values[i, :, 0] for name, values in scores.items()}
        close(one, brute(params, encoded, str(candidate), config))


def test_groups_compositions_and_dropped_components(params, encoded):
    found = searcher(params, encoded)
    texts = ["1.mlp@0.25", "1.mlp@0", "2.attn@0.5", "0.fc_in@0.5+2.v_proj@0.5", "1.k_proj@-0.1"]
    texts += ["*.fc_in@0.5", "-1.mlp@0", "2.fc_out@magnitude:0.2", "0.attn@magnitude:0.5"]
    scores = found.evaluate([notation.parse(text) for text in texts], np.arange(4))
    for i, text in enumerate(texts):
        close({n: v[i, :, 0] for n, v in scores.items()}, brute(params, encoded, text))


def test_on_top_of_other_cuts(params, encoded):
    """The kept streams of the uncut model must not serve a model cut below."""
    found = searcher(params, encoded)
    candidates = [notation.parse(text) for text in ("2.fc_in@0.5", "2.fc_in@0.2")]
    found.evaluate(candidates, np.arange(4))
    given = notation.parse("0.fc_out@0.3")
    scores = found.evaluate(candidates, np.arange(4), given)
    for i, candidate in enumerate(candidates):
        expected = brute(params, encoded, f"{given}+{candidate}")
        close({n: v[i, :, 0] for n, v in scores.items()}, expected)
    again = found.evaluate(candidates, np.arange(4))
    close({n: v[0, :, 0] for n, v in again.items()}, brute(params, encoded, "2.fc_in@0.5"))


def test_each_layer_below_runs_once(params, encoded):
    found = searcher(params, encoded)
    for name in ("fc_in", "fc_out", "q_proj"):
        found.evaluate(notation.candidates([(2, name)], ["0.5", "0.2", "0"]), np.arange(4))
        assert found.streams.layers_run == 2
    found.full(np.arange(4))
    assert found.streams.layers_run == 2
    # Equal interventions are the same objects, so their streams are found too.
    for _ in range(2):
        given = notation.parse("1.fc_in@0.5")
        found.evaluate(notation.candidates([(2, "fc_in")], ["0.5"]), np.arange(4), given)
    assert found.streams.layers_run == 3


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("room", [0, 1, 99])
def test_prefixes_stay_within_their_memory(params, encoded, on_host, room):
    rows, length = np.prod(encoded.batch.tokens.shape[:2]), encoded.batch.tokens.shape[2]
    stream = int(rows * length * CONFIG.d_model * 4)
    found = searcher(
        params, encoded, prefix_memory=room * stream + 1, prefixes_on_host=on_host, memory=1
    )
    assert found.examples.batch_size == 1
    candidates = notation.candidates([(layer, "fc_in") for layer in range(3)], ["0.5"])
    scores = found.evaluate(candidates, np.arange(4))
    kept = found.streams
    assert kept.held <= room * stream + 1
    # Going up, one stream per example is enough to run every layer once.
    assert kept.layers_run == (12 if room == 0 else 8)
    for i, candidate in enumerate(candidates):
        expected = brute(params, encoded, str(candidate))
        close({n: v[i, :, 0] for n, v in scores.items()}, expected)


def test_derivatives_by_finite_differences(params, encoded):
    found = searcher(params, encoded)
    keys = [(0, "q_proj"), (1, "fc_in"), (2, "out_proj")]
    gradients = gradient_guided.component_gradients(found, keys, np.arange(4))
    for key in keys:
        components = found.decompositions[key]
        for i in (0, 5):
            ends = []
            for change in (1e-2, -1e-2):
                delta = jnp.zeros_like(components.s).at[i].set(change)
                moved = found.network.matrices[key].perturb(params, components, delta)
                loss = scoring.evaluate(moved, CONFIG, encoded)["loss"]
                ends.append(loss.mean(dtype=np.float64))
            slope = (ends[0] - ends[1]) / 2e-2
            np.testing.assert_allclose(gradients[key][i], slope, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("key", [(0, "v_proj"), (1, "fc_out"), (1, "ov"), (2, "fc_in")])
def test_effects_of_directions_by_moving_the_output(params, encoded, key):
    """e_i is the slope of the loss as the matrix's output moves towards that of x'."""
    found = searcher(params, encoded)
    signed, _ = effects.effects(found, key, np.arange(4), seed=3)
    partners = effects.derangement(4, 3)
    batch = found.examples.select(np.arange(4))
    stopped = entered(found, params, key, batch)
    other = entered(found, params, key, found.examples.select(partners))
    both = np.asarray(stopped.valid & other.valid)[..., None]
    x, moved = np.asarray(stopped.inputs), np.asarray(other.inputs)
    address = found.network.matrices[key]
    u, s, vt = (np.asarray(part) for part in address.at_stop(found.decompositions[key]))
    uncut = np.asarray(address.outputs(params, stopped.inputs))
    for i in (0, 3):
        step = np.where(both, moved - x, 0) @ u[:, [i]] * s[i] * vt[[i]]
        ends = []
        for e in (1e-2, -1e-2):
            outputs = jnp.asarray(uncut + e * step)
            scores = found.network.resume(params, key, outputs, stopped.rest, batch)
            ends.append(np.asarray(scores["loss"]))
        slope = ((ends[0] - ends[1]) / 2e-2)[:, 0]
        np.testing.assert_allclose(signed[:, i], slope, rtol=0.03, atol=2e-3)


def test_the_whole_network_between_enter_and_leave(params, encoded):
    found = searcher(params, encoded)
    batch = found.examples.select(np.arange(4))
    full = scoring.evaluate(params, CONFIG, encoded)
    for key, address in found.network.matrices.items():
        stopped = entered(found, params, key, batch)
        examples, positions = stopped.valid.shape
        assert stopped.inputs.shape[:2] == (examples, positions)
        outputs = address.outputs(params, stopped.inputs)
        scores = found.network.resume(params, key, outputs, stopped.rest, batch)
        close({n: np.asarray(v)[:, 0] for n, v in scores.items()}, full)


def test_what_a_matrix_reads(params, encoded):
    """enter's inputs are those of bridge.network, at real positions."""
    found = searcher(params, encoded)
    batch = found.examples.select(np.arange(4))
    tokens, mask = (jnp.asarray(encoding.flat(a)) for a in (batch.tokens, batch.mask))
    x = model.residual_streams(params, CONFIG, tokens, mask)[1]
    inputs = matrix_inputs(params["layers"][1], CONFIG, x, model.context_of(mask))
    for name, expected in inputs.items():
        stopped = entered(found, params, (1, name), batch)
        real = np.asarray(mask).reshape(4, -1)
        np.testing.assert_array_equal(stopped.valid, real)
        expected = np.asarray(expected).reshape(4, real.shape[1], -1)
        np.testing.assert_allclose(stopped.inputs[real], expected[real], rtol=1e-5, atol=1e-5)


def test_probabilities_of_the_first_answer_token(params, encoded):
    found = searcher(params, encoded)
    full = scoring.evaluate(params, CONFIG, encoded)
    (row, *_) = ablation.report(found, notation.parse("2.mlp@0"), np.arange(4), top=3)
    law = ablation.mean_probabilities(found, params, np.arange(4))
    assert law.shape == (50,)
    np.testing.assert_allclose(law.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(law[encoded.vocabulary.noise], full["p_the"].mean(), rtol=1e-4)
    assert row["top_classes"] == np.argsort(-law, kind="stable")[:3].tolist()


def test_weights_in_factors_give_the_same_scores(params, encoded):
    found = searcher(params, encoded)
    cut = notation.parse("1.fc_in@0.2+0.q_proj@0.2")
    thin, rows = factored.apply(found.decompositions, cut)
    assert all(row["factored"] for row in rows)
    other = found.on(params=thin)
    close({n: v[:, 0] for n, v in other.full(np.arange(4)).items()}, found_full(found, cut))
    # A factored matrix can be cut again.
    again = other.evaluate([notation.parse("1.fc_in@0")], np.arange(4))
    expected = brute(params, encoded, "1.fc_in@0+0.q_proj@0.2")
    close({n: v[0, :, 0] for n, v in again.items()}, expected)


def found_full(found, cut):
    return {n: v[:, 0] for n, v in found.full(np.arange(4), cut).items()}


def test_composition_never_ends_below_the_best_single_cut(params, encoded):
    found = searcher(params, encoded)
    candidates = notation.candidates([(2, "fc_in"), (2, "fc_out")], ["0.5", "0"])
    problem = SearchProblem(found, tuple(candidates), np.arange(3), np.array([3]))
    outcome = rules.run("greedy", problem, objective="loss")
    single = found.evaluate(candidates, np.arange(3))["loss"].mean(axis=(1, 2)).min()
    reached = found.full(np.arange(3), outcome.best)["loss"].mean()
    assert reached <= min(single, found.full(np.arange(3))["loss"].mean()) + 1e-6


def test_bfloat16_and_side_by_side(params, encoded):
    exact = searcher(params, encoded, together=3)
    rough = searcher(params, encoded, dtype="bfloat16")
    candidates = notation.candidates([(1, "fc_in")], ["0.5", "0.3", "0.2", "0.1"])
    one, two = (s.evaluate(candidates, np.arange(4))["loss_per_token"] for s in (exact, rough))
    assert exact.together == 3
    assert 0 < np.max(np.abs(one - two)) < 0.3
    alone = searcher(params, encoded, together=1).evaluate(candidates, np.arange(4))
    np.testing.assert_allclose(one, alone["loss_per_token"], rtol=2e-5)


class Noting(surgery.LanguageNetwork):
    """Notes what every stream above a cut is made of."""

    noted: ClassVar[set[str]] = set()

    def _resumed(self, params, key, outputs, rest, batch):
        found = super()._resumed(params, key, outputs, rest, batch)
        self.noted.update({str(outputs.dtype), str(found.dtype)})
        return found


@pytest.mark.parametrize("together", [1, 2])
def test_above_a_cut_activations_keep_their_precision(params, encoded, together):
    """Components are float32; what follows them must not be, or halves save nothing."""
    exact = searcher(params, encoded)
    network = Noting(CONFIG, encoded.vocabulary, "bfloat16")
    found = Scorer(network, params, exact.examples, together=together)
    Noting.noted.clear()
    found.evaluate(notation.candidates([(0, "fc_in"), (1, "v_proj")], ["0.5", "0.2"]), np.arange(4))
    assert Noting.noted == {"bfloat16"}


def test_scores_are_the_same_however_many_share_an_unembedding(params, encoded, monkeypatch):
    scorer = searcher(params, encoded, together=1)
    cuts = notation.candidates([(0, "fc_in"), (2, "fc_out")], ["0.8", "0.5", "0.2", "0.1", "0"])
    indices = np.arange(len(encoded))
    shared = scorer.evaluate(cuts, indices)
    rows = encoded.batch.at.size
    for together in (0, 2 * 4 * rows * CONFIG.vocab_size):  # one by one; two, two and one
        monkeypatch.setattr(scoring, "_TOGETHER", together)
        found = scorer.evaluate(cuts, indices)
        for name, values in shared.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_search_in_one_call(params, encoded):
    checkpoint = bridge.Checkpoint(CONFIG, params)
    options = {"layers": (-1,), "rhos": ("0.5", "0"), "objective": "loss", "validation": 0.5}
    outcome = bridge.search(checkpoint, encoded, rule="greedy", order="last_first", **options)
    assert outcome.rows[0]["intervention"] == "full"
    assert {cut.layer for cut in outcome.nearest.intervention.cuts} == {2}
    grid = bridge.search(checkpoint, encoded, memory=1, **options)
    names = [row["intervention"] for row in grid.rows]
    assert names == ["full", "-1.fc_in@0.5", "-1.fc_in@0", "-1.fc_out@0.5", "-1.fc_out@0"]
    with pytest.raises(ValueError, match="rule 'annealing'"):
        bridge.search(checkpoint, encoded, rule="annealing")
    with pytest.raises(ValueError, match="no directory with a tokenizer"):
        bridge.search(checkpoint, "sums")


def test_the_readout_is_how_logits_follow_the_stream(params, encoded):
    """logits(x) = (x - mean) / deviation @ R + a constant."""
    outer = scoring.outer_params(params)
    x = jax.random.normal(jax.random.key(5), (1, 7, CONFIG.d_model))
    deviation = jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + CONFIG.norm_eps)
    constant = outer["final_norm"]["bias"] @ outer["embed_out"]["kernel"]
    expected = model.final_logits(outer, CONFIG, x) - constant[None, None]
    found = np.asarray(x / deviation) @ surgery.readout(params, CONFIG)
    np.testing.assert_allclose(found, expected, atol=2e-4)
