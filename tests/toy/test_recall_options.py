"""The options of the published task, each against a reading of the sequences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from truncated_weights.toy import language, network, recall, transformer
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.training import loop

WORDS = language.zipf(6, concentration=20.0, seed=1)


def draw(task, alpha=0.0, batch_size=2048):
    sample = jax.jit(lambda key: recall.sample(task, key, batch_size=batch_size, alpha=alpha))
    return jax.tree.map(np.asarray, sample(jax.random.key(0)))


def outputs_of(batch):
    """ybar of each sequence that scores anything, one trigger."""
    return batch.correct[batch.weights[:, 0] > 0, 0]


def law_of(values, law):
    counts = np.bincount(values, minlength=len(law))
    assert np.all(counts[law == 0] == 0)
    kept = law > 0
    return stats.chisquare(counts[kept], counts.sum() * law[kept] / law[kept].sum()).pvalue


@pytest.mark.parametrize("outputs", ["all", "not_trigger", "bigram"])
def test_outputs_have_the_law_that_was_asked(outputs):
    task = recall.make_task(WORDS, alpha=0.5, length=30, noise=(4,), outputs=outputs)
    assert (task.triggers, task.noise, task.vocab_size) == ((0,), (4,), 6)
    # With noise in the context, so that whether a sequence scores says nothing about its output.
    batch = draw(task, alpha=1.0)
    law = np.ones(6)
    if outputs == "not_trigger":
        law[0] = 0
    if outputs == "bigram":
        law = WORDS.bigram[0]
    assert law_of(outputs_of(batch), law / law.sum()) > 1e-3


def test_a_trigger_that_is_its_own_output_repeats_and_all_of_it_is_scored():
    task = recall.make_task(WORDS, alpha=0.5, length=30, outputs="all")
    batch = draw(task)
    assert batch.dropped == 0
    own = batch.tokens[:, 0] == 0
    own &= batch.tokens[:, 1] == 0
    assert own.sum() > 50
    np.testing.assert_array_equal(batch.tokens[own], 0)
    assert set(batch.weights[own].sum(axis=1)) == {29}
    # Sequences with noise need far fewer places.
    assert task.capacity < task.clean_capacity == 30
    assert draw(task, alpha=None).dropped == 0


def test_held_out_outputs_are_never_trained_on():
    task = recall.make_task(language.uniform(20), alpha=0.3, length=80, outputs="heldout")
    assert len(task.outputs) == 14
    assert sorted([*task.outputs, *task.held_out]) == list(range(1, 20))
    assert set(outputs_of(draw(task))) == set(task.outputs)
    unseen = recall.with_held_out(task)
    assert set(outputs_of(draw(unseen))) == set(task.held_out)
    with pytest.raises(ValueError, match="holds no outputs out"):
        recall.with_held_out(recall.make_task(WORDS, alpha=0.3, length=8))


def test_random_triggers_are_the_sequences_own():
    task = recall.make_task(
        WORDS, alpha=0.4, length=40, num_triggers=2, random_triggers=True, trigger_offset=1
    )
    assert task.triggers == (1, 2)
    batch = draw(task, alpha=0.4)
    assert batch.dropped == 0
    seen = []
    for row in range(300):
        mine = set(batch.tokens[row][batch.at_trigger[row]])
        seen += list(mine)
        assert len(mine) <= 2
        for token in mine:
            here = batch.tokens[row] == token
            np.testing.assert_array_equal(here, here & batch.at_trigger[row])
            after = set(batch.following[row][here]) - set(task.noise)
            # One output per trigger, never itself.
            assert len(after) <= 1
            assert token not in after
    assert set(seen) == set(range(6))
    np.testing.assert_array_equal(batch.following[:, :-1], batch.tokens[:, 1:])


def test_without_replacement_the_first_trigger_has_the_unigram_law():
    task = recall.make_task(WORDS, alpha=0.4, length=4, random_triggers=True)
    gumbel = jax.random.gumbel(jax.random.key(1), (4096, task.vocab_size))
    found = np.asarray(recall.triggers_of(jnp, task, 4096, gumbel))[:, 0]
    assert law_of(found, np.append(WORDS.unigram, 0)) > 1e-3


def test_loss_on_all_tokens_is_the_mean_over_every_next_token():
    task = recall.make_task(WORDS, alpha=0.5, length=10)
    config = TransformerConfig(task.vocab_size, 10, d_model=6, feed_forward=("linear",))
    problem = RecallProblem(task, config, 16, "all")
    params, frozen = transformer.init(config, jax.random.key(0))
    key = jax.random.key(1)
    given = problem.loss(params, frozen, key, lambda batch: batch)
    batch = recall.sample(task, key, batch_size=16)
    logits = network.run(config, transformer.combine(params, frozen), batch.tokens).logits
    z = np.asarray(logits, np.float64)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    rows, times = np.indices(batch.tokens.shape)
    expected = -log_p[rows, times, np.asarray(batch.following)].mean()
    assert float(given) == pytest.approx(expected, rel=1e-5)
    other = RecallProblem(task, config, 16).loss(params, frozen, key, lambda batch: batch)
    assert abs(float(other) - expected) > 1e-3


def test_a_traced_law_is_the_law():
    task = recall.make_task(WORDS, alpha=0.5, length=12)
    config = TransformerConfig(task.vocab_size, 12, d_model=4, feed_forward=("none",))
    problem = RecallProblem(task, config, 8)
    params, frozen = transformer.init(config, jax.random.key(0))
    values = {
        "alpha": jnp.float32(0.5),
        "transition": jnp.asarray(recall.cumulative(task.transition)),
        "initial": jnp.asarray(recall.cumulative(task.initial[None])[0]),
    }

    @jax.jit
    def traced(values):
        return problem.given(values).loss(params, frozen, jax.random.key(2), lambda b: b)

    plain = problem.loss(params, frozen, jax.random.key(2), lambda b: b)
    assert float(traced(values)) == pytest.approx(float(plain), rel=1e-6)
    assert float(traced({**values, "alpha": jnp.float32(0.0)})) != pytest.approx(float(plain))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": (6,)}, "noise"),
        ({"noise": (0,)}, "share a token"),
        ({"trigger_offset": 6}, "trigger_offset is 6"),
        ({"outputs": "heldout", "random_triggers": True}, "heldout outputs need triggers"),
    ],
)
def test_what_cannot_be_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        recall.make_task(WORDS, alpha=0.5, length=8, **arguments)


def test_the_last_residual_is_trained_with_for_as_many_steps_as_asked():
    task = recall.make_task(WORDS, alpha=0.5, length=12)
    models = [
        TransformerConfig(7, 12, d_model=4, feed_forward=("mlp", "none"), last_residual=on)
        for on in (True, False)
    ]
    switched = RecallProblem(task, models[0], 16, last_residual_steps=2)

    def trained(problem, state, steps):
        trainer = loop.Trainer(problem, optax.sgd(0.3), (0,), num_steps=5)
        return trainer.advance(trainer.init() if state is None else state, steps)

    whole = trained(switched, None, 5)
    parts = trained(RecallProblem(task, models[0], 16), None, 2)
    early = jax.tree.map(jnp.copy, parts)
    parts = trained(RecallProblem(task, models[1], 16), parts, 3)
    never = trained(RecallProblem(task, models[0], 16), early, 3)
    for one, other, third in zip(
        *map(jax.tree.leaves, (whole.params, parts.params, never.params)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)
        assert np.abs(one - third).max() > 1e-4


def test_rows_are_made_for_more_than_comes():
    for outputs in ("all", "others"):
        task = recall.make_task(WORDS, alpha=0.5, length=30, outputs=outputs)
        for clean in (True, False):
            slots = task.clean_capacity if clean else task.capacity
            drawn = draw(task, alpha=0.0 if clean else None, batch_size=40 * 64)
            for batch_size in (64, 2):
                # Forty batches of this size.
                sums = drawn.weights[: 40 * batch_size].reshape(40, -1).sum(axis=1)
                rows = task.room(batch_size, slots)
                assert sums.max() < rows <= batch_size * slots
                if batch_size > 2:
                    assert rows < 0.9 * batch_size * slots
    traced = dataclasses.replace(task, initial=jnp.asarray(task.initial))
    assert traced.room(5, 7) == 35
    forced = recall.make_task(WORDS, alpha=0.5, length=30, scoring="final")
    assert forced.room(64, forced.capacity) == 64
