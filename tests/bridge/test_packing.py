"""Every distinct beginning once: the tree against sets of tuples, the scores against whole rows."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.families.test_goldens import checkpoint
from tests.bridge.words import Words
from truncated_weights import bridge
from truncated_weights.bridge import encoding, packing, scoring, surgery
from truncated_weights.bridge.tasks import Example
from truncated_weights.truncation.search.scorer import Scorer


@pytest.fixture(autouse=True)
def pack_small_models_too(monkeypatch):
    monkeypatch.setattr(packing, "_SPARED", 0.0)


ROWS = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=8)


def padded(rows):
    """Tokens and mask, padded on the right."""
    length = max(1, *map(len, rows))
    mask = np.arange(length) < np.array([[len(row)] for row in rows])
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = [token for row in rows for token in row]
    return tokens, mask


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_a_node_for_each_distinct_beginning(rows):
    tokens, mask = padded(rows)
    nodes, first = packing.tree(tokens, mask, share=True)
    beginnings = {tuple(row[: k + 1]) for row in rows for k in range(len(row))}
    assert len(first) == len(beginnings)
    named = {}
    for i, row in enumerate(rows):
        for k in range(len(row)):
            # One node for one beginning, whichever row it is in, and one beginning for a node.
            assert named.setdefault(int(nodes[i, k]), tuple(row[: k + 1])) == tuple(row[: k + 1])
    assert set(named) == set(range(len(first)))
    for node, place in enumerate(first):
        row, column = divmod(int(place), tokens.shape[1])
        assert tuple(rows[row][: column + 1]) == named[node]


@given(ROWS)
@settings(max_examples=50, deadline=None)
def test_without_sharing_a_node_for_each_real_token(rows):
    tokens, mask = padded(rows)
    nodes, first = packing.tree(tokens, mask, share=False)
    np.testing.assert_array_equal(np.sort(first), np.flatnonzero(mask))
    np.testing.assert_array_equal(first[nodes[mask]], np.flatnonzero(mask))


def batch_of(rows):
    tokens, mask = padded(rows)
    return encoded("Oslo is in").batch._replace(tokens=tokens[:, None], mask=mask[:, None])


def beginnings(rows):
    return len({tuple(row[: k + 1]) for row in rows for k in range(len(row))})


@given(ROWS, st.integers(1, 8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_example_stands_once_in_an_arrangement(rows, size, share):
    order = packing.arrange(batch_of(rows), size, share=share)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(rows)))


def test_an_arrangement_brings_beginnings_together_and_evens_batches():
    """Forty facts of ten relations and forty rows alone: what each batch holds, counted by sets."""
    draws = np.random.default_rng(0)
    rows = [[i % 10, 3, 4, 5, 6, *draws.integers(10, 10**6, 2).tolist()] for i in range(40)]
    rows += [draws.integers(10, 10**6, n).tolist() for n in draws.integers(2, 30, 40)]
    rows = [rows[i] for i in draws.permutation(len(rows))]
    size = 20

    def counted(order):
        return [
            beginnings([rows[i] for i in order[start : start + size]])
            for start in range(0, len(rows), size)
        ]

    plain = counted(np.arange(len(rows)))
    found = counted(packing.arrange(batch_of(rows), size, share=True))
    assert sum(found) < sum(plain)
    assert max(found) - min(found) <= 3 < max(plain) - min(plain)
    # What looks ahead shares nothing: batches have alike many tokens then.
    order = packing.arrange(batch_of(rows), size, share=False)
    tokens = np.array([len(rows[i]) for i in order]).reshape(-1, size).sum(axis=1)
    assert np.ptp(tokens) <= 3


@given(st.lists(ROWS, min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_blocks_hold_every_row_once_and_a_place_of_every_node(batches):
    """Batches of one shape, whose blocks must have one shape too."""
    count, length = max(map(len, batches)), max(6, *(len(r) for rows in batches for r in rows))
    alike = []
    for rows in batches:
        tokens = np.zeros((count, 1, length), np.int32)
        mask = np.zeros(tokens.shape, bool)
        for i in range(count):
            row = rows[i % len(rows)] or [1]
            tokens[i, 0, : len(row)], mask[i, 0, : len(row)] = row, True
        alike.append(encoded("Oslo is in").batch._replace(tokens=tokens, mask=mask))
    shapes = set()
    for batch, packed in zip(alike, packing.pack(alike, bridge.config_for_size("1b")), strict=True):
        if not isinstance(packed, packing.PackedBatch):
            continue
        mask, found = batch.mask[:, 0], packed.tree
        shapes.add(tuple(block.nodes.shape for block in found.blocks))
        rows = np.concatenate([block.rows for block in found.blocks])
        np.testing.assert_array_equal(np.sort(rows), np.arange(count))
        for block in found.blocks:
            width = block.nodes.shape[1]
            assert not mask[block.rows, width:].any()
            np.testing.assert_array_equal(block.nodes, found.nodes[block.rows, :width])
        places = np.concatenate([block.nodes.reshape(-1) for block in found.blocks])
        real = np.concatenate(
            [mask[block.rows, : block.nodes.shape[1]].reshape(-1) for block in found.blocks]
        )
        assert real[found.in_blocks].all()
        np.testing.assert_array_equal(places[found.in_blocks], found.nodes.reshape(-1)[found.first])
    assert len(shapes) <= 1


def test_short_rows_are_not_padded_to_the_longest():
    mask = np.arange(24) < np.repeat([3, 9, 10, 24], 8)[:, None]
    assert packing._shapes([mask]) == [(8, 4), (16, 12), (8, 24)]
    # Several batches of one shape: each block as long as its longest row in any of them.
    longer = mask | (np.arange(24) < 5)
    assert packing._shapes([mask, longer]) == [(8, 8), (16, 12), (8, 24)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_other_blocks_leave_attention_less_to_do(lengths):
    """Against every way to cut the rows, sorted, into as many blocks or fewer."""
    mask = np.arange(40) < np.array(lengths)[:, None]
    shapes = packing._shapes([mask])
    assert len(shapes) <= packing._BLOCKS
    assert sum(count for count, _ in shapes) == len(lengths)
    ranked = -(-np.maximum(np.sort(lengths), 1) // packing._MULTIPLE) * packing._MULTIPLE

    def cost(cuts):
        edges = [0, *cuts, len(ranked)]
        return sum(
            (end - start) * ranked[end - 1] * (ranked[end - 1] + packing._COPIES)
            for start, end in itertools.pairwise(edges)
        )

    # Every cut where no width changes is as good or worse, so those are left out.
    places = np.flatnonzero(np.diff(ranked)) + 1
    ways = (itertools.combinations(places, number) for number in range(packing._BLOCKS))
    least = min(cost(cuts) for cuts in itertools.chain.from_iterable(ways))
    assert cost(np.cumsum([count for count, _ in shapes])[:-1]) == least


def encoded(*prompts):
    examples = [Example(prompt, " France", (" Spain",)) for prompt in prompts]
    return encoding.encode_examples(examples, Words(longest=6), num_tokens=50)


def test_batches_of_one_shape_stay_of_one_shape():
    names = ("Paris", "Oslo", "Rome", "Bern", "Turin")
    found = encoded(*(f"The town of {name} is in" for name in names))
    config = checkpoint("gptj").config
    parts = [encoding.select(found, np.array(five)).batch for five in ((0, 1, 2, 3, 4), [2] * 5)]
    one, other = packing.pack(parts, config)
    assert jax.tree.map(np.shape, one.tree) == jax.tree.map(np.shape, other.tree)


def test_what_would_save_nothing_is_left_as_it_is():
    found = encoded("Paris is a town", "Oslo lies far north")
    full = found.batch._replace(mask=np.ones_like(found.batch.mask))
    different = np.arange(full.tokens.size, dtype=np.int32).reshape(full.tokens.shape)
    batch = full._replace(tokens=different)
    assert packing.pack([batch], checkpoint("gptj").config) == [batch]


def test_a_model_so_small_that_compiling_costs_more_is_left_as_it_is(monkeypatch):
    monkeypatch.undo()
    batch = encoded(*["The town of Paris is in"] * 6).batch
    small = checkpoint("gptj").config
    assert packing.pack([batch], small) == [batch]
    large = bridge.config_for_size("1b")
    assert isinstance(packing.pack([batch], large)[0], packing.PackedBatch)


def test_a_long_rope_shares_nothing_and_a_masked_model_neither():
    found = encoded(*["The town of Paris is in"] * 6)
    real = int(found.batch.mask.sum())
    nodes = {
        case: len(np.unique(packing.pack([found.batch], checkpoint(case).config)[0].tree.first))
        for case in ("phi3_long", "roberta", "gptj")
    }
    assert nodes == {"phi3_long": real, "roberta": real, "gptj": real // 6}


def test_whole_forward_passes_of_several_batches_agree_with_plain_ones():
    """Shared beginnings, several lengths, a batch that is filled up: as scoring.evaluate has it."""
    prompts = [f"The town of {name} is in" for name in ("Paris", "Oslo", "Rome", "Bern")]
    found = encoded(*prompts, "Two words follow", "Oslo", "Oslo lies far north of Rome")
    model = checkpoint("llama3")
    whole = surgery.scorer(model, found)
    small = Scorer(whole.network, model.params, dataclasses.replace(whole.examples, batch_size=3))
    expected = scoring.evaluate(model.params, model.config, found)
    for scorer in (whole, small):
        batches = scorer.network.pack([b.data for b in scorer.examples.batches(np.arange(7))])
        assert all(isinstance(batch, packing.PackedBatch) for batch in batches)
        scores = scorer.full(np.arange(7))
        for name in ("loss", "logit_difference", "rank"):
            np.testing.assert_allclose(scores[name][:, 0], expected[name], rtol=2e-5, atol=1e-5)


def test_batches_on_a_cpu_have_as_many_tokens_as_its_caches_take(monkeypatch):
    """Here: twelve, of rows with six and one; scores come in the order of the examples."""
    found = encoded(*(f"The town of {name} is in" for name in ("Paris", "Oslo", "Rome")), "Oslo")
    model = checkpoint("gptj")
    whole = surgery.scorer(model, found)
    monkeypatch.setattr(surgery, "_CACHED", 0)
    monkeypatch.setattr(surgery, "_TOKENS", 12)
    small = surgery.scorer(model, found)
    assert whole.examples.batch_size == 4
    assert small.examples.batch_size == round(12 / (found.batch.mask.sum() / 4)) < 4
    indices = np.array([3, 1, 0, 2])
    expected, scores = whole.full(indices), small.full(indices)
    for name in ("loss", "logit_difference", "rank"):
        np.testing.assert_allclose(scores[name], expected[name], rtol=2e-5, atol=1e-5)


def test_rows_on_both_sides_of_a_long_ropes_original_length():
    """Each row's places are turned by the factors of that row's own length."""
    model = checkpoint("phi3_long")
    original = model.config.rope_scaling.original
    found = encoded(*(" ".join(["Oslo", "is"] * n) for n in (1, 3, original, original // 2 + 2)))
    lengths = found.batch.mask[:, 0].sum(axis=1)
    assert lengths.min() < original < np.sort(lengths)[-2]
    scorer = surgery.scorer(model, found)
    assert isinstance(scorer._batches(np.arange(4))[0][0].data, packing.PackedBatch)
    expected, scores = (
        scoring.evaluate(model.params, model.config, found),
        scorer.full(np.arange(4)),
    )
    np.testing.assert_allclose(scores["loss"][:, 0], expected["loss"], rtol=2e-5, atol=1e-5)


def test_candidates_side_by_side_agree_with_one_after_another():
    """As they run on accelerators; attention's copies of what rows share get an axis more."""
    found = encoded(*(f"The town of {name} is in" for name in ("Paris", "Oslo", "Rome")), "Oslo")
    model = checkpoint("gptj")
    cuts = surgery.interventions(
        [f"0.{name}@{rho}" for name in ("fc_in", "q_proj") for rho in (0.5, 0.25)], model.config
    )
    alone, together = (surgery.scorer(model, found, together=count) for count in (1, 2))
    for scorer in (alone, together):
        assert isinstance(scorer._batches(np.arange(4))[0][0].data, packing.PackedBatch)
    expected = alone.evaluate(cuts, np.arange(4))
    scores = together.evaluate(cuts, np.arange(4))
    for name in ("loss", "logit_difference", "rank"):
        np.testing.assert_allclose(scores[name], expected[name], rtol=2e-5, atol=1e-5)
