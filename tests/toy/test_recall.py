import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats

from truncated_weights.toy import language, recall

# Fixed seeds: a right sampler fails none of these, a wrong law gives p far below 1e-6.
SMALLEST_P = 1e-3


def draw(task, *, seed=0, batch_size=4096, alpha=None):
    sample = jax.jit(lambda key: recall.sample(task, key, batch_size=batch_size, alpha=alpha))
    return jax.tree.map(np.asarray, sample(jax.random.key(seed)))


def chi_square(counts, law):
    """p-value of counts under a law; impossible events must not have happened."""
    assert np.all(counts[law == 0] == 0)
    expected = counts.sum() * law[law > 0]
    assert expected.min() > 5
    return stats.chisquare(counts[law > 0], expected).pvalue


@pytest.fixture(scope="module")
def words():
    return language.zipf(6, concentration=20.0, seed=1)


@pytest.fixture(scope="module")
def drawn(words):
    """Two triggers, two noise tokens: the whole law in one sample."""
    task = recall.make_task(words, alpha=0.3, length=40, num_triggers=2, num_noise=2)
    return task, draw(task)


def pair_counts(task, tokens):
    counts = np.zeros((task.vocab_size, task.vocab_size))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    return counts


def test_transitions_away_from_triggers_follow_the_bigram_law(drawn, words):
    task, batch = drawn
    counts = pair_counts(task, batch.tokens)
    for token in range(task.vocab_size):
        if token in task.triggers:
            continue
        law = np.zeros(8)
        law[:6] = words.bigram[token] if token < 6 else words.unigram
        assert chi_square(counts[token], law) > SMALLEST_P


def test_first_token_follows_the_unigram_law(drawn, words):
    _, batch = drawn
    counts = np.bincount(batch.tokens[:, 0], minlength=8)
    assert chi_square(counts, np.concatenate([words.unigram, [0, 0]])) > SMALLEST_P


def test_noise_rate_is_binomial_and_noise_tokens_are_uniform(drawn):
    task, batch = drawn
    counts = pair_counts(task, batch.tokens)
    for trigger in task.triggers:
        visits, noisy = counts[trigger].sum(), counts[trigger, list(task.noise)]
        assert stats.binomtest(int(noisy.sum()), int(visits), 0.3).pvalue > SMALLEST_P
        assert stats.binomtest(int(noisy[0]), int(noisy.sum()), 0.5).pvalue > SMALLEST_P


def marginal(task, step):
    """Exact law of the token at a step: the chain given each output, averaged over outputs."""
    (trigger,) = task.triggers
    mean = np.zeros(task.vocab_size)
    for output in task.outputs:
        step_law = np.array(task.transition, dtype=float)
        step_law[trigger] = 0
        step_law[trigger, list(task.noise)] = task.alpha / len(task.noise)
        step_law[trigger, output] += 1 - task.alpha
        mean += task.initial @ np.linalg.matrix_power(step_law, step) / len(task.outputs)
    return mean


def test_marginals_agree_with_powers_of_the_transition_matrix(words):
    task = recall.make_task(words, alpha=0.6, length=12)
    batch = draw(task, seed=5, batch_size=20_000)
    for step in (1, 2, 11):
        counts = np.bincount(batch.tokens[:, step], minlength=task.vocab_size)
        assert chi_square(counts, marginal(task, step)) > SMALLEST_P


def test_existing_noise_is_the_rarest_token_and_keeps_its_row(words):
    task = recall.make_task(words, alpha=0.5, length=30, existing_noise=True)
    assert (task.vocab_size, task.noise, task.triggers) == (6, (5,), (0,))
    assert list(task.outputs) == [1, 2, 3, 4]
    batch = draw(task)
    counts = pair_counts(task, batch.tokens)
    assert chi_square(counts[5], words.bigram[5]) > SMALLEST_P
    # Noise reaches its token from the trigger with probability alpha, as a new token would.
    assert stats.binomtest(int(counts[0, 5]), int(counts[0].sum()), 0.5).pvalue > SMALLEST_P
    assert counts[0, 0] == 0


def test_final_scoring_forces_a_uniform_trigger_and_a_uniform_output(words):
    task = recall.make_task(
        words, alpha=0.25, length=9, num_triggers=3, num_noise=2, scoring="final"
    )
    batch = draw(task, batch_size=20_000)
    assert np.all(batch.positions == 8)
    assert batch.positions.shape == (20_000, 1)
    assert np.all(batch.weights == 1)
    assert batch.dropped == 0
    last, correct, label = batch.tokens[:, -1], batch.correct[:, 0], batch.labels[:, 0]
    assert chi_square(np.bincount(last, minlength=8)[:3], np.full(3, 1 / 3)) > SMALLEST_P
    for trigger in task.triggers:
        counts = np.bincount(correct[last == trigger], minlength=8)
        assert chi_square(counts, np.isin(np.arange(8), task.outputs) / 3) > SMALLEST_P
    noisy = np.isin(label, task.noise)
    assert np.all(label[~noisy] == correct[~noisy])
    assert stats.binomtest(int(noisy.sum()), 20_000, 0.25).pvalue > SMALLEST_P


def test_each_trigger_has_an_output_of_its_own(words):
    task = recall.make_task(words, alpha=0.0, length=120, num_triggers=2)
    tokens = draw(task, batch_size=6000).tokens
    outputs = np.full((6000, 2), -1)
    for index, trigger in enumerate(task.triggers):
        rows, times = np.nonzero(tokens[:, :-1] == trigger)
        outputs[rows, index] = tokens[rows, times + 1]
        # Clean: every other occurrence in the sequence is followed by the same token.
        assert np.all(tokens[rows, times + 1] == outputs[rows, index])
    found = outputs[(outputs >= 0).all(axis=1)] - 2
    assert len(found) > 5950
    counts = np.bincount(found[:, 0] * 4 + found[:, 1], minlength=16)
    assert chi_square(counts, np.full(16, 1 / 16)) > SMALLEST_P


def brute_force_scored(tokens, triggers):
    rows = []
    for sequence in tokens:
        seen = dict.fromkeys(triggers, 0)
        rows.append([])
        for time, token in enumerate(sequence):
            if token in seen:
                seen[token] += 1
                if seen[token] >= 2:
                    rows[-1].append(time)
    return rows


@pytest.mark.parametrize("options", [{}, {"random_triggers": True}, {"scoring": "final"}])
def test_the_law_is_the_same_in_numpy_as_on_the_device(words, options):
    task = recall.make_task(words, alpha=0.4, length=12, num_triggers=2, num_noise=2, **options)
    rng = np.random.default_rng(0)
    gumbel = rng.gumbel(size=(50, task.vocab_size)).astype(np.float32)
    outputs = rng.choice(task.outputs, (50, 2))
    noise, uniform = rng.choice(task.noise, 50), rng.random(50, np.float32)
    draws = recall.Draws(rng.random(50) < 0.5, noise, uniform)
    token = rng.integers(0, task.vocab_size, 50)
    steps = recall.cumulative(task.transition)
    tokens = rng.integers(0, 3, (50, task.length))

    def law(xp):
        given = jax.tree.map(xp.asarray, (steps, outputs, token, draws, tokens))
        summed, ybars, here, drawn, read = given
        with np.errstate(divide="ignore"):
            triggers = recall.triggers_of(xp, task, 50, xp.asarray(gumbel))
        after = recall.following(xp, summed, triggers, ybars, here, drawn)
        return triggers, after, recall.scored_at(xp, task, read, triggers)

    (triggers, after, scored), on_device = law(np), law(jnp)
    for one, other in zip((triggers, after, scored), on_device, strict=True):
        np.testing.assert_array_equal(one, other)
    for row in range(50):
        if token[row] in triggers[row]:
            ybar = outputs[row, list(triggers[row]).index(token[row])]
            assert after[row] == (noise[row] if draws.is_noise[row] else ybar)
        else:
            assert after[row] == np.searchsorted(steps[token[row]], uniform[row], side="right")


@pytest.mark.parametrize("capacity", [None, 3])
def test_scored_positions_are_those_found_by_reading_each_sequence(words, capacity):
    task = recall.make_task(words, alpha=0.4, length=25, num_triggers=2)
    task = dataclasses.replace(task, capacity=capacity or task.capacity)
    batch = draw(task, batch_size=300)
    rows = brute_force_scored(batch.tokens, task.triggers)
    assert batch.positions.shape == (300, task.capacity)
    for row, expected in enumerate(rows):
        kept = expected[: task.capacity]
        weights = batch.weights[row]
        assert list(weights) == [1] * len(kept) + [0] * (task.capacity - len(kept))
        assert list(batch.positions[row, : len(kept)]) == kept
        for slot, time in enumerate(kept):
            if time + 1 < task.length:
                assert batch.labels[row, slot] == batch.tokens[row, time + 1]
    dropped = sum(max(len(expected) - task.capacity, 0) for expected in rows)
    assert batch.dropped == dropped
    assert (dropped == 0) == (capacity is None)


def test_labels_are_the_correct_token_or_noise(drawn):
    task, batch = drawn
    scored = batch.weights > 0
    noisy = np.isin(batch.labels, task.noise)
    assert np.all((batch.labels == batch.correct)[scored & ~noisy])
    # The label of the last position lies beyond the sequence: it still has its law.
    at_end = scored & (batch.positions == task.length - 1)
    assert at_end.sum() > 500
    assert stats.binomtest(int(noisy[at_end].sum()), int(at_end.sum()), 0.3).pvalue > SMALLEST_P
    assert np.all(np.isin(batch.correct, task.outputs))


def test_capacity_drops_nothing_in_many_sequences():
    task = recall.make_task(language.zipf(24), alpha=0.5, length=48)
    assert task.capacity <= 24
    assert draw(task, seed=9, batch_size=20_000, alpha=0.0).dropped == 0


def test_clean_shares_all_that_comes_before_noise(words):
    task = recall.make_task(words, alpha=0.5, length=20)
    clean, noisy = draw(task, alpha=0.0), draw(task)
    assert not np.isin(clean.tokens, task.noise).any()
    first_noise = np.argmax(np.isin(noisy.tokens, task.noise), axis=1)
    first_noise[~np.isin(noisy.tokens, task.noise).any(axis=1)] = 20
    before = np.arange(20)[None] < first_noise[:, None]
    assert np.array_equal(clean.tokens[before], noisy.tokens[before])


def test_alpha_one_is_always_noise(words):
    task = recall.make_task(words, alpha=1.0, length=20)
    batch = draw(task, batch_size=500)
    assert np.all(batch.labels[batch.weights > 0] == task.noise[0])
    # The task's own alpha and one given in its place are the same thing.
    assert np.array_equal(batch.tokens, draw(replaced(task, 0.5), batch_size=500, alpha=1.0).tokens)


def replaced(task, alpha):
    return dataclasses.replace(task, alpha=alpha)


def test_a_batch_is_the_same_however_it_is_spread_over_devices(drawn):
    task, _ = drawn
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    assert mesh.size == 8

    def spread(key):
        batch = recall.sample(task, key, batch_size=64)
        rows = NamedSharding(mesh, PartitionSpec("batch"))
        return jax.tree.map(
            lambda x: jax.lax.with_sharding_constraint(x, rows) if x.ndim else x, batch
        )

    sharded = jax.jit(spread)(jax.random.key(2))
    assert len(sharded.tokens.sharding.device_set) == 8
    alone = draw(task, seed=2, batch_size=64)
    assert all(np.array_equal(a, b) for a, b in zip(sharded, alone, strict=True))


def test_the_law_does_not_depend_on_batch_size(words):
    task = recall.make_task(words, alpha=0.3, length=12)
    large = draw(task, seed=3, batch_size=16_000).tokens
    keys = jax.random.split(jax.random.key(4), 4000)
    small = jax.jit(jax.vmap(lambda key: recall.sample(task, key, batch_size=4).tokens))(keys)
    small = np.asarray(small).reshape(-1, 12)
    for time in (0, 3, 11):
        table = [np.bincount(x[:, time], minlength=7) for x in (large, small)]
        table = np.array(table)[:, np.sum(table, axis=0) > 0]
        assert stats.chi2_contingency(table).pvalue > SMALLEST_P
    # Sequences of one batch are independent: neighbours agree as often as chance has it.
    agree = np.mean(small[0::4, 3] == small[1::4, 3])
    law = np.bincount(small[:, 3], minlength=7) / len(small)
    chance = np.sum(law**2)
    assert abs(agree - chance) < 4 * np.sqrt(chance * (1 - chance) / 4000)


def test_shortest_sequence_scores_nothing(words):
    task = recall.make_task(words, alpha=0.5, length=2)
    assert draw(task, batch_size=100).weights.sum() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": 1.1}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"length": 1}, "length"),
        ({"num_triggers": 0}, "num_triggers"),
        ({"num_noise": 0}, "num_noise"),
        ({"triggers": (6,)}, "triggers"),
        ({"triggers": (-1,)}, "triggers"),
        ({"triggers": (2, 2)}, "triggers"),
        ({"num_triggers": 99}, "no token is left"),
        ({"triggers": (5,), "existing_noise": True}, "share a token"),
        ({"num_triggers": 5, "existing_noise": True}, "no token is left"),
    ],
)
def test_tasks_that_cannot_be(words, settings, message):
    with pytest.raises(ValueError, match=message):
        recall.make_task(words, **({"alpha": 0.5, "length": 8} | settings))
