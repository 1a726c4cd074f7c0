"""Constants, generated answers and whole items, on a tiny model and by hand."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.experiments import model_checkpoint
from truncated_weights import bridge
from truncated_weights.bridge import encoding, scoring
from truncated_weights.bridge.tasks import Marking
from truncated_weights.bridge.tasks.example import Example, choose
from truncated_weights.experiments.truncate_model import worth
from truncated_weights.training.records import name, spelled

pytest.importorskip("tokenizers")
CLOSED = (" red", " green", " the hat")
EXAMPLES = [
    choose(f"The {thing} of {name} is", CLOSED[i % 3], CLOSED, item=thing)
    for i, (thing, name) in enumerate(
        (thing, name)
        for thing in ("hat", "coat", "house", "red hat")
        for name in ("Anna", "Mark", "Peter")
    )
]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return bridge.load(model_checkpoint.write_checkpoint(tmp_path_factory.mktemp("a") / "model"))


@pytest.fixture(scope="module")
def models(full):
    """The full model, and one that says " green" whatever is asked."""
    green = full.tokenizer.single(" green")
    outer = full.params["embed_out"]["kernel"]
    forced = jax.tree.map(lambda w: w, full.params)
    # Every stream points along a constant, which only the column of " green" reads.
    forced["final_norm"] = {
        "scale": 0 * full.params["final_norm"]["scale"],
        "bias": 0 * full.params["final_norm"]["bias"] + 1,
    }
    forced["embed_out"] = {"kernel": (0 * outer).at[:, green].set(5.0)}
    return {"full": full, "cut": dataclasses.replace(full, params=forced)}


@pytest.fixture(scope="module")
def tested(full):
    return encoding.encode_examples(EXAMPLES, full.tokenizer, num_tokens=full.tokenizer.size)


def flat(found):
    return {spelled(key): value for key, value in found.figures.items()}


def test_a_cut_that_says_one_thing_is_called_so(tested, models):
    found = worth.of_choices(tested, CLOSED, models, memory=2**24, samples=200)
    figures = flat(found)
    assert figures["closed/best_constant"] == pytest.approx(1 / 3)
    assert figures["closed/cut/summed/commonest"] == " green"
    assert figures["closed/cut/summed/constant"] == 1
    assert figures["closed/cut/summed/accuracy"] == pytest.approx(1 / 3)
    assert figures["closed/cut/summed/kappa"] == pytest.approx(0)
    assert any(
        "cut, summed" in line and "a constant, not an answer" in line for line in found.lines
    )
    scores = scoring.evaluate(models["full"].params, models["full"].config, tested)
    assert figures["closed/full/summed/accuracy"] == pytest.approx(scores["choice_summed"].mean())
    assert figures["closed/full/per_token/accuracy"] == pytest.approx(scores["choice"].mean())
    json.dumps(figures, allow_nan=False)


def test_generated_answers_of_both_models(tested, models):
    marking = Marking("contains", new_tokens=4)
    found = worth.of_texts(tested, marking, models, most=5, batch_size=2, samples=200)
    assert len(found.rows) == 10
    said = [row for row in found.rows if row["model"] == "cut"]
    assert {row["generated"] for row in said} == {" green" * 4}
    right = np.mean([e.answer == " green" for e in EXAMPLES[:5]])
    assert flat(found)["generated/cut/contains"] == pytest.approx(right)
    change = right - flat(found)["generated/full/contains"]
    low, high = (flat(found)[f"generated/cut/contains_change_{end}"] for end in ("low", "high"))
    assert low <= change <= high
    assert flat(found)["generated/full/contains_change_low"] == 0


def test_whole_items_are_resampled(tested):
    rng = np.random.default_rng(0)
    per_item = rng.normal(size=4)
    before = {name: np.zeros(12) for name in ("accuracy", "loss")}
    after = {name: np.repeat(per_item, 3) for name in before}
    found = worth.of_items(tested, before, after, samples=2000)
    assert flat(found)["items"] == 4
    # Resampling four values: the standard error is that of four, not of twelve.
    spread = flat(found)["by_items/loss_change_high"] - flat(found)["by_items/loss_change_low"]
    assert spread > 2.5 * np.std(per_item) / np.sqrt(4)
    alone = encoding.select(tested, np.array([0, 3]))
    two = {name: values[[0, 3]] for name, values in after.items()}
    assert worth.of_items(alone, two, two) == worth.Worth()


def test_an_item_weighs_what_it_has_examples():
    difference, items = np.array([1.0, 1.0, 4.0]), np.array([0, 0, 1])
    found = worth.by_items(difference, items, 0, 500)
    assert found.mean[0] == pytest.approx(2.0)
    assert (found.low[0], found.high[0]) == (1.0, 4.0)


def test_both_are_kept_together():
    a = worth.Worth(("one",), {name("x"): 1}, ({"model": "full"},))
    assert a + worth.Worth() == a
    assert (a + a).lines == ("one", "one")


def test_examples_of_a_task_are_their_own_items_unless_told():
    examples = [Example("a", " b"), Example("c", " b")]
    assert worth.split.items(examples).tolist() == [0, 1]
