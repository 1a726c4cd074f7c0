"""Against loops over sequences and positions, on models drawn at random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import language, network, recall, recall_problem, transformer
from truncated_weights.toy.probes import outputs as probes
from truncated_weights.toy.probes import records
from truncated_weights.toy.transformer import TransformerConfig
from truncated_weights.training.records import name as named
from truncated_weights.truncation import editing, notation


@pytest.fixture(scope="module")
def world():
    task = recall.make_task(language.zipf(6), alpha=0.5, length=16, num_triggers=2, num_noise=2)
    config = TransformerConfig(task.vocab_size, 16, d_model=6, d_hidden=8)
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    # Larger than at the start, so that attention and predictions differ from uniform.
    weights["layers"] = jax.tree.map(lambda w: 2 * w, weights["layers"])
    weights["unembed"] = 3 * weights["unembed"]
    batch = jax.jit(lambda key: recall.sample(task, key, batch_size=40))(jax.random.key(1))
    trace = jax.jit(lambda w: network.run(config, w, batch.tokens, batch.positions))(weights)
    assert 0 < batch.weights.sum() < batch.weights.size
    return task, config, weights, batch, trace


def scored(batch):
    """(row, slot) of everything that counts."""
    return list(zip(*np.nonzero(np.asarray(batch.weights)), strict=True))


def softmax(z):
    e = np.exp(np.asarray(z, np.float64) - np.max(z))
    return e / e.sum()


def test_outputs_are_means_over_what_is_scored(world):
    task, _, _, batch, trace = world
    found = {name: [] for name in ("p_correct", "p_noise", "accuracy", "loss")}
    for row, slot in scored(batch):
        p = softmax(trace.logits[row, slot])
        correct, label = int(batch.correct[row, slot]), int(batch.labels[row, slot])
        found["p_correct"].append(p[correct])
        found["p_noise"].append(sum(p[token] for token in task.noise))
        found["accuracy"].append(np.argmax(p) == correct)
        found["loss"].append(-np.log(p[label]))
    got = probes.means(task, trace.logits, batch)
    assert set(got) == set(found)
    for name, values in found.items():
        assert float(got[name]) == pytest.approx(np.mean(values), rel=1e-5)


def test_a_batch_without_scored_positions_gives_zero_not_nan(world):
    task, _, _, batch, trace = world
    empty = batch._replace(weights=jnp.zeros_like(batch.weights))
    assert all(float(v) == 0 for v in probes.means(task, trace.logits, empty).values())


def test_attention_masses_by_reading_each_context(world, monkeypatch):
    task, _, _, batch, trace = world
    tokens, last = np.asarray(batch.tokens), np.asarray(trace.patterns[-1], np.float64)
    correct, noise = [], []
    for row, slot in scored(batch):
        query = int(batch.positions[row, slot])
        after = [s for s in range(1, query + 1) if tokens[row, s - 1] == tokens[row, query]]
        ybar = int(batch.correct[row, slot])
        correct.append(sum(last[row, slot, s] for s in after if tokens[row, s] == ybar))
        noise.append(sum(last[row, slot, s] for s in after if tokens[row, s] in task.noise))
    below = np.asarray(trace.patterns[0], np.float64)
    previous = [below[row, t, t - 1] for row in range(40) for t in range(1, 16)]
    got = probes.attention(task, trace, batch)
    assert float(got[named("attention_correct")]) == pytest.approx(np.mean(correct), rel=1e-5)
    assert float(got[named("attention_noise")]) == pytest.approx(np.mean(noise), rel=1e-5)
    assert float(got[named("attention_previous")]) == pytest.approx(np.mean(previous), rel=1e-5)
    hits = [np.argmax(below[row, t]) == t - 1 for row in range(40) for t in range(1, 16)]
    assert float(got[named("attention_previous_argmax")]) == pytest.approx(np.mean(hits), rel=1e-5)
    tops = [
        tokens[row, np.argmax(last[row, slot]) - 1] == tokens[row, int(batch.positions[row, slot])]
        and np.argmax(last[row, slot]) > 0
        for row, slot in scored(batch)
    ]
    assert float(got[named("attention_argmax")]) == pytest.approx(np.mean(tops), rel=1e-5)
    early = [below[row, t, t - 1] for row in range(40) for t in range(1, 9)]
    monkeypatch.setattr(probes, "FIRST_ATTENTION", 9)
    few = probes.attention(task, trace, batch)[named("attention_previous_first")]
    assert float(few) == pytest.approx(np.mean(early), rel=1e-5)
    assert min(np.mean(correct), np.mean(noise)) > 0.01
    single = trace._replace(patterns=trace.patterns[-1:])
    assert named("attention_previous") not in probes.attention(task, single, batch)


def test_public_attention_masses_by_reading_each_sequence(world):
    task, _, _, batch, trace = world
    tokens, last = np.asarray(batch.tokens), np.asarray(trace.patterns[-1], np.float64)
    slots = {(row, int(batch.positions[row, slot])): slot for row, slot in scored(batch)}
    means = {"trigger": [], "noise": [], "correct": []}
    for row in range(40):
        triggers = [t for t in range(16) if tokens[row, t] in task.triggers]
        masses = dict.fromkeys(means, 0.0)
        for t in triggers:
            # A trigger that is not scored is the first of its kind; so is what it looks at.
            if (row, t) not in slots:
                continue
            for s in range(1, t + 1):
                if tokens[row, s - 1] in task.triggers:
                    mass = last[row, slots[row, t], s]
                    masses["trigger"] += mass
                    masses["noise" if tokens[row, s] in task.noise else "correct"] += mass
        if triggers:
            for name, mass in masses.items():
                means[name].append(mass / len(triggers))
    assert 0 < len(means["trigger"]) <= 40
    got = probes.attention(task, trace, batch)
    for name, values in means.items():
        assert float(got[named(f"attention_after_{name}")]) == pytest.approx(
            np.mean(values), rel=1e-5
        )
    assert np.mean(means["noise"]) > 0.01


def test_label_accuracy_at_the_start_and_at_the_end(world):
    task, _, _, batch, trace = world
    hits = {"": [], "_first": [], "_last": []}
    for row, slot in scored(batch):
        hit = np.argmax(trace.logits[row, slot]) == int(batch.labels[row, slot])
        time = int(batch.positions[row, slot])
        hits[""].append(hit)
        hits["_first"] += [hit] * (time < 10)
        hits["_last"] += [hit] * (time == 15)
    got = probes.means_of(probes.label_metrics(task, trace.logits, batch))
    assert 0 < len(hits["_last"]) < len(hits["_first"]) < len(hits[""])
    for name, values in hits.items():
        assert float(got[named(f"label_accuracy{name}")]) == pytest.approx(
            np.mean(values), rel=1e-5
        )
    nowhere = batch._replace(positions=jnp.zeros_like(batch.positions))
    got = probes.means_of(probes.label_metrics(task, trace.logits, nowhere))
    assert float(got[named("label_accuracy_last")]) == 0


def test_confusion_counts_predictions_against_labels(world):
    task, _, _, batch, trace = world
    table = np.zeros((2, 2))
    for row, slot in scored(batch):
        predicted = int(np.argmax(trace.logits[row, slot])) in task.noise
        table[int(predicted), int(int(batch.labels[row, slot]) in task.noise)] += 1
    assert (table > 0).all()
    got = np.asarray(probes.confusion(task, trace, batch))
    np.testing.assert_allclose(got, table / table.sum(), rtol=1e-5)
    assert got.sum() == pytest.approx(1)


def test_attribution_sums_to_the_margin_and_each_part_is_what_its_block_does(world):
    task, config, weights, batch, trace = world
    parts = probes.attribution(task, config, weights, trace, batch)
    blocks = ["embedding", "attention_0", "feed_forward_0", "attention_1", "feed_forward_1"]
    assert list(parts) == [named("margin", block=block) for block in blocks]
    margins, without = [], []
    removed = editing.apply(weights, "1.mlp@0", transformer.matrices(config))
    cut = network.run(config, removed, batch.tokens, batch.positions).logits
    for row, slot in scored(batch):
        for logits, found in ((trace.logits, margins), (cut, without)):
            z = np.asarray(logits[row, slot], np.float64)
            found.append(np.mean(z[list(task.noise)]) - z[int(batch.correct[row, slot])])
    assert sum(map(float, parts.values())) == pytest.approx(np.mean(margins), abs=1e-5)
    # Nothing reads the last feed-forward but the unembedding: its part is what removal takes.
    effect = np.mean(margins) - np.mean(without)
    assert float(parts[named("margin", block="feed_forward_1")]) == pytest.approx(effect, abs=1e-5)


def test_evaluation_measures_full_and_truncated_models_on_both_sets(world):
    task, config, weights, _, _ = world
    cut = notation.parse("1.mlp@0")
    measure = records.measure_models([cut], batch_size=12)
    problem = recall_problem.RecallProblem(task, config, batch_size=12)
    params, frozen = transformer.init(config, jax.random.key(0))
    key = jax.random.key(5)
    got = jax.jit(functools.partial(measure, problem))(params, frozen, key)
    metrics = ("p_correct", "p_noise", "accuracy", "loss")
    for name in ("clean", "noisy"):
        models = ("full", "1.mlp@0")
        assert {named(x, set=name, model=m) for m in models for x in metrics} <= set(got)
        assert float(got[named("dropped", set=name)]) == 0
    weights = transformer.combine(params, frozen)
    clean = recall.sample(task, key, batch_size=12, alpha=0.0)
    trace = network.run(config, weights, clean.tokens, clean.positions)
    expected = probes.means(task, trace.logits, clean)
    loss = float(got[named("loss", set="clean", model="full")])
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_training_loss_is_the_cross_entropy_at_scored_positions(world):
    task, config, _, _, _ = world
    problem = recall_problem.RecallProblem(task, config, batch_size=40)
    params, frozen = problem.init(jax.random.key(0))
    given = problem.loss(params, frozen, jax.random.key(1), lambda batch: batch)
    batch = recall.sample(task, jax.random.key(1), batch_size=40)
    logits = network.run(config, transformer.combine(params, frozen), batch.tokens).logits
    losses = [
        -np.log(softmax(logits[row, int(batch.positions[row, slot])])[int(batch.labels[row, slot])])
        for row, slot in scored(batch)
    ]
    assert float(given) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.fault("A1")
def test_logits_that_are_not_finite_are_no_hits(world):
    task, _, _, batch, trace = world
    row, slot = scored(batch)[0]
    logits = trace.logits.at[row, slot, 0].set(jnp.nan)
    found = probes.predictions(task, logits, batch) | {
        name: values.numbers for name, values in probes.label_metrics(task, logits, batch).items()
    }
    for name, values in found.items():
        assert np.isnan(values[row, slot]).all(), name
        rest = np.delete(np.asarray(values).reshape(trace.logits.shape[0], -1), row, axis=0)
        assert np.isfinite(rest).all(), name
