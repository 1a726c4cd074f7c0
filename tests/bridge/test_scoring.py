import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.words import Words
from truncated_weights import bridge
from truncated_weights.bridge import encoding, packing, scoring, surgery
from truncated_weights.bridge import network as model
from truncated_weights.bridge.closed_choice import option_scores
from truncated_weights.bridge.encoding import EncodedBatch, Vocabulary, bucket_length
from truncated_weights.bridge.tasks import Example, TaskError
from truncated_weights.bridge.tasks.example import choose
from truncated_weights.bridge.tasks.metrics import closed

CONFIG = bridge.Config(
    vocab_size=48, num_layers=2, d_model=16, num_heads=2, d_ff=24, max_positions=64
)
EXAMPLES = (
    Example("Madrid is in", " Spain", (" France", " Italy")),
    Example("We all know that the city of Paris is found in", " France", (" Spainland",)),
    Example("Two words follow", " one other", (" the", " other one too", " one")),
    Example("In", " Spainland", (" Spain", " Frankland")),
)


@pytest.fixture(scope="module")
def params():
    # Larger than at the start of training, so that probabilities differ clearly.
    start = bridge.init_params(CONFIG, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf * 3, start)


def encoded(examples=EXAMPLES, words=None, **keywords):
    words = words or Words(longest=6)
    keywords = {"num_tokens": 40, **keywords}
    return encoding.encode_examples(examples, words, **keywords)


def log_probabilities(params, words, example, text, num_tokens=40):
    """log p of each token of a continuation, one sequence at a time, all logits computed."""
    context, whole = words(example.prompt), words(example.prompt + text)
    assert whole[: len(context)] == context
    # Zeros follow, which what comes before cannot see: one shape to compile.
    row = jnp.asarray([(whole + [0] * 20)[:20]])
    logits = model.forward(params, CONFIG, row)[0, :, :num_tokens]
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    places = range(len(context), len(whole))
    return [log_p[i - 1] for i in places], [whole[i] for i in places]


def by_hand(params, words, example):
    laws, tokens = log_probabilities(params, words, example, example.answer)
    each = [law[token] for law, token in zip(laws, tokens, strict=True)]
    rivals, per_token = [], []
    for text in example.distractors:
        found = log_probabilities(params, words, example, text)
        values = [law[token] for law, token in zip(*found, strict=True)]
        rivals.append(sum(values))
        per_token.append(np.mean(values))
    order = np.argsort(-laws[0], kind="stable")
    return {
        "loss": -sum(each),
        "loss_per_token": -np.mean(each),
        "accuracy": float(all(np.argmax(law) == t for law, t in zip(laws, tokens, strict=True))),
        "rank": 1.0 + list(order).index(tokens[0]),
        "p_answer": np.exp(sum(each)),
        "p_the": np.exp(laws[0][words(" the")[0]]),
        "margin_the": each[0] - laws[0][words(" the")[0]],
        "p_distractor": np.exp(max(rivals)),
        "logit_difference": sum(each) - max(rivals),
        "choice": float(np.mean(each) > max(per_token)),
        "choice_summed": float(sum(each) > max(rivals)),
    }


@pytest.mark.parametrize("memory", [1, 2**30])
def test_every_figure_against_one_sequence_at_a_time(params, memory):
    words = Words(longest=6)
    found = scoring.evaluate(params, CONFIG, encoded(words=words), memory=memory)
    assert set(found) == set(scoring.names(Vocabulary(0, 40, True)))
    for i, example in enumerate(EXAMPLES):
        for name, value in by_hand(params, words, example).items():
            np.testing.assert_allclose(found[name][i], value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_an_answer_that_is_certain(params):
    """accuracy and choice are 1, rank 1, where the unembedding favours the answer alone."""
    words = Words(longest=6)
    one = encoded(EXAMPLES[:1], words)
    answer = words(" Spain")[0]
    norm = {"scale": jnp.zeros(16), "bias": jnp.ones(16)}
    kernel = jnp.zeros((16, 48)).at[:, answer].set(2.0)
    sure = {**params, "final_norm": norm, "embed_out": {"kernel": kernel}}
    found = scoring.evaluate(sure, CONFIG, one)
    np.testing.assert_allclose(found["p_answer"], np.exp(32) / (np.exp(32) + 39), rtol=1e-6)
    np.testing.assert_allclose(found["logit_difference"], 32, rtol=1e-5)
    assert (found["accuracy"], found["choice"], found["rank"]) == (1, 1, 1)
    # The rows beyond num_tokens exist in no text, so they compete for nothing.
    loud = {**sure, "embed_out": {"kernel": kernel.at[:, 40:].set(99.0)}}
    for name, value in scoring.evaluate(loud, CONFIG, one).items():
        np.testing.assert_array_equal(value, found[name])


def test_equal_logits_rank_by_id():
    batch = EncodedBatch(
        tokens=np.zeros((2, 1, 8), np.int32),
        mask=np.ones((2, 1, 8), bool),
        at=np.zeros((2, 1, 1), np.int32),
        targets=np.array([[[3]], [[0]]], np.int32),
        counted=np.ones((2, 1, 1), bool),
        rivals=np.zeros((2, 0), np.int32),
        number=np.arange(2, dtype=np.int32),
    )
    logits = jnp.zeros((2, 1, 1, 9)).at[:, :, :, 5].set(1.0)
    found = scoring.scores_of_logits(logits, batch, Vocabulary(noise=5, num_tokens=6, rivals=False))
    np.testing.assert_array_equal(found["rank"][:, 0], [5, 2])
    np.testing.assert_array_equal(found["accuracy"], 0)
    np.testing.assert_allclose(found["p_the"], np.e / (np.e + 5), rtol=1e-6)
    np.testing.assert_allclose(found["margin_the"], -1, rtol=1e-6)
    assert "choice" not in found


def test_order_and_company_do_not_matter(params):
    words = Words(longest=6)
    whole = scoring.evaluate(params, CONFIG, encoded(words=words))
    halves = EXAMPLES[3:1:-1], EXAMPLES[1::-1]
    alone = [scoring.evaluate(params, CONFIG, encoded(half, words)) for half in halves]
    for name, values in whole.items():
        reverse = np.concatenate([one[name] for one in alone])
        np.testing.assert_allclose(values[::-1], reverse, rtol=2e-5, atol=1e-6)


def test_bfloat16_activations_stay_near(params):
    params = jax.tree.map(lambda leaf: leaf / 3, params)
    exact = scoring.evaluate(params, CONFIG, encoded())
    rough = scoring.evaluate(params, CONFIG, encoded(), dtype="bfloat16")
    assert rough["loss"].dtype == np.float32
    error = np.abs(rough["loss_per_token"] - exact["loss_per_token"])
    assert 0 < error.max() < 0.1


def test_a_prefix_goes_before_every_row():
    words = Words()
    plain, prefixed = encoded(words=words), encoded(words=words, prefix=(39,))
    np.testing.assert_array_equal(prefixed.batch.tokens[:, 0, 0], 39)
    length = plain.batch.mask[:, 0].sum(axis=-1)
    np.testing.assert_array_equal(prefixed.batch.mask[:, 0].sum(axis=-1), length + 1)
    np.testing.assert_array_equal(prefixed.batch.targets, plain.batch.targets)


class Merging:
    """Characters, except that "=1" is one token: prompt and answer share it."""

    def __call__(self, text):
        if text == " the":
            return [0]
        codes, rest = [], text
        while rest:
            size = 2 if rest.startswith("=1") else 1
            codes.append(1 + sum(map(ord, rest[:size])) % 37)
            rest = rest[size:]
        return codes


def test_a_token_across_the_border_belongs_to_the_continuation():
    encode = Merging()
    whole = encode("3x4=12")
    assert len(whole) == 5
    found = encoded((Example("3x4=", "12", ("22", "1")),), encode)
    row = found.batch
    # Predicted from "3x4": "=1" and "2" for the answer; its distractors from the same place.
    np.testing.assert_array_equal(row.targets[0, 0, : row.counted[0, 0].sum()], whole[3:])
    assert row.at[0, 0, 0] == 2
    assert row.counted[0].sum(axis=-1).tolist() == [2, 3]
    assert row.rivals[0].tolist() == [encode("=1")[0]]


def test_long_examples_are_dropped_and_told():
    found = encoded(max_length=8)
    assert len(found) == 3
    assert found.dropped == ("1 of 4 examples exceed 8 tokens",)
    with pytest.raises(TaskError, match="none of 4 examples"):
        encoded(max_length=1)


def test_what_cannot_be_encoded():
    with pytest.raises(TaskError, match="' the' is 2 tokens"):
        encoded(words=Words(longest=2))
    with pytest.raises(TaskError, match="no examples"):
        encoded(())
    with pytest.raises(TaskError, match="begin with one token"):
        encoded((Example("=", "12"),), Merging())
    with pytest.raises(TaskError, match="adds no token"):
        encoded((Example("a", " b"),), lambda text: [0] if text in (" the",) else [1])


def test_figures_without_distractors():
    mixed = encoded((*EXAMPLES, Example("No rival", " here")))
    assert not mixed.vocabulary.rivals
    assert "choice" not in scoring.names(mixed.vocabulary)


def test_buckets_are_few_and_hold_everybody():
    lengths = [2] * 30 + [20] * 30 + [5] * 2 + [50]
    examples = [Example(" ".join(f"w{i}" for i in range(n)), " x") for n in lengths]
    found = encoding.encode_examples(examples, Words(), num_tokens=99)
    groups = scoring.buckets(found.batch)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert [encoding.take(found.batch, g).tokens.shape[-1] for g in groups] == [8, 24, 64]


def test_bucket_lengths():
    found = sorted({bucket_length(n) for n in range(1, 1025)})
    assert found == [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert all(bucket_length(n) >= n for n in range(1, 1025))


def test_joined_parts_score_as_they_did_apart(params):
    words = Words(longest=6)
    parts = [encoded(EXAMPLES[:1], words), encoded(EXAMPLES[1:], words)]
    joined = encoding.concatenate(parts)
    assert joined.examples == EXAMPLES
    assert joined.batch.number.tolist() == [0, 1, 2, 3]
    whole = scoring.evaluate(params, CONFIG, joined)
    apart = [scoring.evaluate(params, CONFIG, part) for part in parts]
    for name, values in whole.items():
        expected = np.concatenate([one[name] for one in apart])
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)


def test_memory_decides_how_many_run_at_once():
    batch = encoded().batch
    one = scoring.bytes_per_example(CONFIG, batch)
    assert scoring.batch_size(CONFIG, batch, memory=1) == 1
    assert scoring.batch_size(CONFIG, batch, memory=2 * one) == 2
    assert scoring.batch_size(CONFIG, batch, memory=99 * one) == len(batch.number)
    wide = dataclasses.replace(CONFIG, vocab_size=50304)
    assert scoring.bytes_per_example(wide, batch) > 10 * one


def test_top_tokens_are_those_of_the_softmax(params):
    words = Words(longest=6)
    found = encoded(words=words)
    ids, values = scoring.top_tokens(params, CONFIG, found, 3, memory=1)
    x = scoring.last_stream(params, CONFIG, found.batch)
    outer = scoring.outer_params(params)
    law = scoring.first_probabilities(outer, CONFIG, x, found.batch, found.vocabulary)
    assert law.shape == (4, 40)
    for i, example in enumerate(EXAMPLES):
        expected = np.exp(log_probabilities(params, words, example, example.answer)[0][0])
        np.testing.assert_allclose(law[i], expected, rtol=2e-5, atol=1e-7)
        assert ids[i].tolist() == np.argsort(-expected)[:3].tolist()
        np.testing.assert_allclose(values[i], expected[ids[i]], rtol=2e-5)


CLOSED = (" Spain", " two words", " Spainland", " a")


def test_options_of_a_closed_set_in_its_order(params):
    """Answers of one token and of several, mixed: against one sequence at a time."""
    words = Words(longest=6)
    prompts = ("Madrid is in", "We all know that the city of Paris is found in", "In", "Is")
    examples = [choose(text, CLOSED[i], CLOSED) for i, text in enumerate(prompts)]
    found = option_scores(params, CONFIG, encoded(examples, words), CLOSED, memory=1)
    assert found.right.tolist() == [0, 1, 2, 3]
    for i, example in enumerate(examples):
        for j, text in enumerate(CLOSED):
            laws, tokens = log_probabilities(params, words, example, text)
            each = [law[token] for law, token in zip(laws, tokens, strict=True)]
            assert found.log_p[i, j] == pytest.approx(sum(each), rel=1e-4)
            assert found.tokens[i, j] == len(each)
    # The choice is that of the scores.
    scores = scoring.evaluate(params, CONFIG, encoded(examples, words))
    hits = closed.choose(found.log_p) == found.right
    np.testing.assert_array_equal(hits, scores["choice_summed"] == 1)
    hits = closed.choose(found.log_p, found.tokens) == found.right
    np.testing.assert_array_equal(hits, scores["choice"] == 1)


def test_options_follow_selection_and_concatenation(params):
    words = Words(longest=6)
    examples = [choose(text, CLOSED[i], CLOSED) for i, text in enumerate(("In", "Is it", "It"))]
    whole = encoded(examples, words)
    parts = [encoding.select(whole, np.array(part)) for part in ([2, 0], [1])]
    joined = encoding.concatenate(parts)
    a = option_scores(params, CONFIG, whole, CLOSED)
    b = option_scores(params, CONFIG, joined, CLOSED)
    np.testing.assert_allclose(a.log_p[[2, 0, 1]], b.log_p, rtol=1e-5)
    assert b.right.tolist() == [2, 0, 1]


def test_options_must_be_those_of_the_examples(params):
    example = choose("In", CLOSED[0], CLOSED)
    with pytest.raises(ValueError, match="are not"):
        option_scores(params, CONFIG, encoded([example]), CLOSED[:2])
    few = encoded([example], max_distractors=2)
    with pytest.raises(ValueError, match="only 2 distractors of 3"):
        option_scores(params, CONFIG, few, CLOSED)
    # None used: there is no rival to compare with.
    assert not encoded([example], max_distractors=0).vocabulary.rivals


@pytest.mark.fault("A2")
@pytest.mark.parametrize("example", EXAMPLES[:2], ids=("rival", "answer"))
def test_tokens_that_are_predicted_and_never_read_are_looked_at(params, example):
    words = Words(longest=6)
    words(example.prompt + example.answer if example is EXAMPLES[0] else example.prompt)
    known = len(words.ids)
    with pytest.raises(TaskError, match=rf"gives id \d+ for .* has {known} tokens"):
        encoded((example,), words, num_tokens=known)
    # Examples encoded for a larger model, or by hand, are refused where they are used.
    large = encoded((example,), words)
    small = dataclasses.replace(CONFIG, vocab_size=known)
    for use in (
        lambda: scoring.evaluate(params, small, large),
        lambda: surgery.scorer(bridge.Checkpoint(small, params), large),
        lambda: scoring.top_tokens(params, small, large),
    ):
        with pytest.raises(ValueError, match=r"tokens run from \d+ to \d+; expected 0 to"):
            use()


@pytest.mark.fault("A2")
def test_the_noise_is_a_token_of_the_model(params):
    words = Words(longest=6)
    words.ids[" the"] = 77
    with pytest.raises(TaskError, match="gives id 77 for ' the', the model has 40 tokens"):
        encoded(EXAMPLES[:1], words)
    found = encoded(EXAMPLES[:1], words, num_tokens=99)
    with pytest.raises(ValueError, match="noise ids run from 77 to 77; expected 0 to 47"):
        scoring.evaluate(params, CONFIG, found)


@pytest.mark.fault("A3")
def test_no_text_is_longer_than_the_positions_of_the_model(params):
    few = dataclasses.replace(CONFIG, max_positions=9)
    long = encoding.encode_examples(
        [Example("a " * 12 + "b", " c"), Example("a", " b")], Words(), num_tokens=48
    )
    checkpoint = bridge.Checkpoint(few, params)
    tokens = np.zeros((1, 13), np.int32)
    for use in (
        lambda: scoring.evaluate(params, few, long),
        lambda: bridge.search(checkpoint, long, validation=0.5),
        lambda: packing.pack([long.batch], few),
        lambda: bridge.logits(checkpoint, tokens),
        lambda: bridge.forward(params, few, jnp.asarray(tokens)),
        lambda: model.residual_streams(params, few, jnp.asarray(tokens)),
    ):
        with pytest.raises(ValueError, match="length 13 exceeds the 9 positions"):
            use()
    with pytest.raises(ValueError, match="8 tokens and 2 new ones exceed the 9 positions"):
        bridge.generate(checkpoint, tokens[:, :8], max_new_tokens=2)
    # Padding takes no position.
    model.check_tokens(few, tokens, np.arange(13)[None] < 9)


@pytest.mark.fault("A1")
def test_a_model_that_says_nan_is_refused_where_it_begins(params):
    """As comparisons have it nothing would rank above the answer: accuracy 1, rank 1."""
    norm = params["layers"][1]["attn_norm"]
    bad = {**norm, "scale": norm["scale"].at[3].set(jnp.nan)}
    broken = {**params, "layers": [params["layers"][0], {**params["layers"][1], "attn_norm": bad}]}
    checkpoint, found = bridge.Checkpoint(CONFIG, broken), encoded()
    told = r"figures of 4 of 4 examples are not finite; layer 1 is the first .* in float32"
    for use in (scoring.evaluate, scoring.top_tokens):
        with pytest.raises(bridge.NotFiniteError, match=told):
            use(broken, CONFIG, found)
    tokens, mask = found.batch.tokens[:, 0], found.batch.mask[:, 0]
    with pytest.raises(bridge.NotFiniteError, match="this gpt_neox: logits are not finite; layer"):
        bridge.logits(checkpoint, tokens, mask=mask)


@pytest.mark.thorough
@pytest.mark.fault("A1")
def test_activations_that_overflow_are_no_figures(params):
    large = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    head = {"kernel": jnp.full((16, 48), 6e4, jnp.float16)}
    norm = {"scale": jnp.full(16, 6e4, jnp.float16), "bias": jnp.full(16, 6e4, jnp.float16)}
    large = {**large, "final_norm": norm, "embed_out": head}
    with pytest.raises(bridge.NotFiniteError, match=r"what follows the last is not, in float16"):
        scoring.evaluate(large, CONFIG, encoded())


@pytest.mark.fault("A1")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_every_figure_of_logits_that_are_not_finite_is_nan(value):
    batch = encoded(EXAMPLES[:2]).batch
    shape = (*batch.at.shape, 48)
    logits = jnp.zeros(shape).at[0, 0, 0, 7].set(value)
    found = scoring.scores_of_logits(logits, batch, Vocabulary(0, 40, True))
    for name, values in found.items():
        assert np.isnan(values[0, 0]), name
        assert np.isfinite(values[1, 0]), name
    # Beyond the vocabulary nobody looks.
    padding = jnp.zeros(shape).at[..., 45].set(value)
    found = scoring.scores_of_logits(padding, batch, Vocabulary(0, 40, True))
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.fault("A1")
def test_of_answers_without_numbers_none_is_chosen():
    assert closed.choose(np.array([[-1.0, -np.inf]])).tolist() == [0]
    with pytest.raises(bridge.NotFiniteError, match="nothing is chosen"):
        closed.choose(np.array([[-1.0, -2.0], [np.nan, -1.0]]))
