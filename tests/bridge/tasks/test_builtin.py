import collections
import re

import pytest

from tests.bridge.words import Words
from truncated_weights.bridge import tasks
from truncated_weights.bridge.tasks import TaskError
from truncated_weights.bridge.tasks.own import arithmetic, country_facts, indirect_object, relations


def test_the_receiver_is_named_once_and_the_giver_twice():
    found = indirect_object.load(Words(), count=96, seed=3)
    assert len({e.prompt for e in found.examples}) == 96
    assert found.dropped == ()
    for e in found.examples:
        names = [name for name in re.findall(r"[A-Z][a-z]+", e.prompt) if f" {name}" in e_words(e)]
        counts = collections.Counter(names)
        assert counts[e.answer.strip()] == 1
        assert counts[e.distractors[0].strip()] == 2
        assert len(e.distractors) == 1


def e_words(example):
    return {example.answer, *example.distractors}


def test_orders_and_templates_are_balanced():
    examples = indirect_object.load(Words(), count=48).examples
    assert collections.Counter(e.covariates["giver_first"] for e in examples) == {0: 24, 1: 24}
    assert set(collections.Counter(e.covariates["template"] for e in examples).values()) == {4}
    # The very order of names in the prompt, not only the label.
    first = [re.findall(r"[A-Z][a-z]+", e.prompt) for e in examples]
    for e, words in zip(examples, first, strict=True):
        names = [w for w in words if f" {w}" in e_words(e)]
        assert (names[0] == e.distractors[0].strip()) == bool(e.covariates["giver_first"])


def test_examples_are_a_function_of_the_seed():
    a, b, c = (indirect_object.load(Words(), count=20, seed=s).examples for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_names_of_several_tokens_are_left_out_and_told():
    found = indirect_object.load(Words(longest=4), count=40)
    assert all(len(e.answer) <= 5 and len(e.distractors[0]) <= 5 for e in found.examples)
    long = [name for name in indirect_object.NAMES if len(name) > 4]
    assert found.dropped[0].startswith(f"{len(long)} of {len(indirect_object.NAMES)} names")
    assert all(f"{name} (2)" in found.dropped[0] for name in long[:8])
    assert found.dropped[0].endswith(f"and {len(long) - 8} more")
    with pytest.raises(TaskError, match="fewer than two of the names"):
        indirect_object.load(Words(longest=1))
    with pytest.raises(TaskError, match="at most"):
        indirect_object.load(Words(), count=10**6)


def test_cities_are_in_their_countries():
    where = [city for cities in country_facts.CITIES.values() for city in cities]
    assert len(where) == len(set(where)) > 200
    found = country_facts.load(Words())
    assert not found.dropped
    for e in found.examples:
        city = next(
            e.prompt[len(t.split("{}")[0]) : len(e.prompt) - len(t.split("{}")[1])]
            for t in country_facts.TEMPLATES
            if re.fullmatch(re.escape(t).replace(r"\{\}", "(.*)"), e.prompt)
        )
        assert city in country_facts.CITIES[e.answer.strip()]
        assert e.covariates["capital"] == (country_facts.CITIES[e.answer.strip()][0] == city)
        assert all(city not in country_facts.CITIES[d.strip()] for d in e.distractors)
        assert len(e.distractors) == country_facts.NUM_DISTRACTORS


def test_long_countries_are_dropped_and_long_distractors_are_not_used():
    found = country_facts.load(Words(longest=6))
    assert all(len(text) <= 7 for e in found.examples for text in e_words(e))
    assert "Australia" in found.dropped[0]
    assert len(country_facts.load(Words(), count=7).examples) == 7


@pytest.mark.parametrize("name", relations.RELATIONS)
def test_each_relation(name):
    found = relations.load(Words(), relation=name)
    assert len(found.examples) >= 10
    assert len({e.prompt for e in found.examples}) == len(found.examples)
    answers = {e.answer for e in found.examples}
    for e in found.examples:
        assert e.group == name
        assert set(e.distractors) <= answers - {e.answer}
        assert e.distractors
        # An answer in its own prompt would make the task one of copying.
        assert e.answer.strip() not in e.prompt.split()


def test_all_relations_together_and_unknown_ones():
    everything = relations.load(Words())
    apart = sum(len(relations.load(Words(), relation=r).examples) for r in relations.RELATIONS)
    assert len(everything.examples) == apart
    with pytest.raises(TaskError, match="antonym"):
        relations.load(Words(), relation="synonym")


@pytest.mark.parametrize("operation", ["sum", "product"])
@pytest.mark.parametrize("shots", [0, 3])
def test_arithmetic_is_right(operation, shots):
    found = arithmetic.load(Words(), operation=operation, count=50, shots=shots, seed=5)
    assert len({e.prompt.splitlines()[-1] for e in found.examples}) == 50
    for e in found.examples:
        lines = (e.prompt + e.answer).splitlines()
        assert len(lines) == shots + 1
        assert len(set(lines)) == len(lines)
        for line in lines:
            problem, result = line.replace("x", "*").split("=")
            assert eval(problem) == int(result)  # our own text, digits and signs
        assert e.answer not in e.distractors
        assert len(e.distractors) >= 2


def test_arithmetic_refuses_what_cannot_be():
    assert len(arithmetic.load(Words(), smallest=2, largest=4, count=99).examples) == 9
    with pytest.raises(TaskError, match="operands from 5 to 5"):
        arithmetic.load(Words(), smallest=5, largest=5)
    with pytest.raises(TaskError, match="shots 400"):
        arithmetic.load(Words(), shots=400)


def test_results_of_several_tokens_are_reported():
    found = arithmetic.load(Words(longest=2), operation="product", count=400)
    several = sum(len(e.answer.strip()) > 2 for e in found.examples)
    assert found.dropped == (f"{several} of 324 results are more than one token",)


@pytest.mark.parametrize("text", tasks.NAMES)
def test_every_name_loads(text):
    assert len(tasks.load(text, Words(), count=12).examples) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stories", "known are indirect_object"),
        ("lre:", "expected lre:FILE"),
        ("sums:7", "takes nothing"),
        ("relations:x", "known are"),
        ("jsonl:/nowhere.jsonl", "/nowhere.jsonl: no such file"),
    ],
)
def test_unknown_tasks(text, message):
    with pytest.raises(TaskError, match=re.escape(message)):
        tasks.load(text, Words())
