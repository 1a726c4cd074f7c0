"""Splits that keep items whole or tear them, protocols, and counts joined to facts."""

import json
import re

import numpy as np
import pytest

from truncated_weights.bridge.tasks import Example, Task, TaskError, card_of, load, protocol, split
from truncated_weights.bridge.tasks.frequency import join


def facts(count, paraphrases=3):
    return [
        Example(f"Fact {i} said {j} times is", f" {i}", item=f"fact {i}")
        for i in range(count)
        for j in range(paraphrases)
    ]


def test_items_stay_on_one_side():
    examples = facts(50)
    for seed in range(5):
        validation, test = split.random_items(examples, seed=seed)
        assert sorted([*validation, *test]) == list(range(150))
        assert split.torn(examples, validation, test) == 0
        assert len(validation) == 30
    # Two seeds, two splits.
    assert not np.array_equal(validation, split.random_items(examples, seed=0)[0])


def test_rows_and_file_order_tear_them():
    examples = facts(50)
    validation, test = split.random_rows(examples, seed=0)
    # 3 rows of an item are all in one part with probability .2^3 + .8^3 = .52.
    assert split.torn(examples, validation, test) > 20
    validation, test = split.first(examples, validation=0.25)
    assert validation.tolist() == list(range(37))
    assert split.torn(examples, validation, test) == 2


def test_equal_prompts_are_one_item():
    examples = [Example("a", " b"), Example("a", " b"), Example("c", " d", item="a")]
    assert split.items(examples).tolist() == [0, 0, 1]


def test_uneven_items_come_near_the_share():
    examples = [Example(f"{i}", " x", item=str(i * i // 40)) for i in range(100)]
    sizes = np.bincount(split.items(examples))
    for seed in range(10):
        validation, _ = split.random_items(examples, validation=0.3, seed=seed)
        assert abs(len(validation) - 30) <= max(sizes) / 2


def test_an_empty_side_is_refused():
    for divide in (split.first, split.random_rows, split.random_items):
        with pytest.raises(TaskError, match="both sides need at least one"):
            divide([Example("a", " b")])
    # One item cannot be on both sides.
    with pytest.raises(TaskError, match="both sides"):
        split.random_items(facts(1, 10))


def test_protocols_of_the_papers(encode):
    task = load("integer_products", encode)
    honest = protocol.of("honest", card_of("integer_products"))
    published = protocol.of("published", card_of("integer_products"))
    assert (published.bos, honest.bos) == (True, False)
    validation, test = published.split(task.examples, seed=42)
    assert (len(validation), len(test)) == (320, 80)
    assert split.torn(task.examples, validation, test) > 0
    validation, test = honest.split(task.examples, seed=42)
    assert split.torn(task.examples, validation, test) == 0
    laser = protocol.of("published", card_of("fever:x.jsonl"))
    assert laser.division == "first"
    assert not laser.full_competes
    assert laser.lines()[0].startswith("protocol published: LASER")
    for line in laser.lines()[1:]:
        assert line.startswith(("  as published: ", "  not as published: "))
    (line,) = [line for line in laser.lines(rhos=("0.5",)) if "fractions of rank" in line]
    assert line.startswith("  not as published: fractions of rank 0.5 where the paper has 0.9")
    assert laser.lines(rhos=laser.rhos, matrices=laser.matrices) == laser.lines()
    for card in (None, card_of("capitals")):
        with pytest.raises(ValueError, match="asked by no paper's protocol"):
            protocol.of("published", card)
    with pytest.raises(ValueError, match="expected honest or published"):
        protocol.of("laser", None)


def task_of(*pairs):
    return Task("facts", tuple(Example(prompt, answer) for prompt, answer in pairs))


FACTS = task_of(("Beats is owned by", " Apple"), ("Beats Electronics is owned by", " Apple"))


def test_counts_by_prompt_and_by_subject(write):
    rows = [
        {"subject": "Beats", "answer": "Apple", "count": 3},
        {"subject": "Beats Electronics", "answer": "Apple", "count": 7},
        {"subject": "Bing", "answer": "Apple", "count": 9},
    ]
    path = write("\n".join(map(json.dumps, rows)))
    counted = join(FACTS, path)
    # The longest subject that stands in a prompt is meant.
    assert [e.covariates["count"] for e in counted.examples] == [3, 7]
    rows[1] = {"prompt": "Beats is owned by", "count": 0}
    counted = join(FACTS, write("\n".join(map(json.dumps, rows))))
    assert [e.covariates.get("count") for e in counted.examples] == [0, 3]
    part = join(FACTS, write(json.dumps(rows[1])))
    assert [e.covariates.get("count") for e in part.examples] == [0, None]
    assert part.dropped == ("1 of 2 examples have no count",)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "a", "count": -1}, "line 2: 'count' is -1"),
        ({"prompt": "a"}, "line 2: 'count' is None"),
        ({"prompt": "a", "count": True}, "line 2: 'count' is True"),
        ({"subject": "a", "count": 1}, "line 2: no field 'answer'"),
        ({"prompt": "x", "count": 2}, "line 2: a count of 'x' is there already"),
        ({"prompt": "b", "count": 2}, "no count of any of the 2 examples of facts"),
    ],
)
def test_damaged_counts(write, row, problem):
    path = write("\n".join(map(json.dumps, ({"prompt": "x", "count": 1}, row))))
    with pytest.raises(TaskError, match=re.escape(problem)):
        join(FACTS, path)
