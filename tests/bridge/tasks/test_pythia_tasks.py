"""Stories, known facts and capitals from users' files."""

import json
import re

import pytest

from tests.bridge.words import Words
from truncated_weights.bridge.tasks import TaskError, load

STORIES = {
    "NAMES": ["Ann", "Bob", "Cyd", "Elizabeth"],
    "PLACES": ["store"],
    "OBJECTS": ["ring", "book"],
    "BABA_TEMPLATES": ["Then, [B] and [A] saw the [PLACE]. [B] gave a [OBJECT] to [A]"],
}


def test_stories_name_the_giver_twice_and_change_over(write):
    path = write(json.dumps(STORIES, indent=1))
    task = load(f"ioi:{path}:count=6", Words(longest=5))
    assert task.dropped[0].startswith("1 of 4 names")
    assert len({e.prompt for e in task.examples}) == 6
    for turn, example in enumerate(task.examples):
        found = re.fullmatch(
            r"Then, (\w+) and (\w+) saw the store\. (\w+) gave a (ring|book) to", example.prompt
        )
        giver, receiver = found[3], example.answer.strip()
        assert example.distractors == (f" {giver}",)
        assert (found[1], found[2]) == ((receiver, giver) if turn % 2 else (giver, receiver))
        assert example.covariates["giver_first"] == 1 - turn % 2


@pytest.mark.parametrize(
    ("changes", "options", "problem"),
    [
        ({"NAMES": ["Ann"]}, "", "expected 1 to 0"),
        ({}, ":count=7", "7 stories asked for, expected 1 to 6"),
        ({"PLACES": []}, "", "no field 'PLACES', or nothing in it"),
        ({}, ":templates=LATE", "no field 'LATE'"),
        ({"BABA_TEMPLATES": ["[B] gave [A] it"]}, "", "is not told with"),
        ({"NAMES": "Ann"}, "", "'NAMES' is a string"),
    ],
)
def test_damaged_story_files(write, changes, options, problem):
    path = write(json.dumps(STORIES | changes))
    with pytest.raises(TaskError, match=re.escape(problem)):
        load(f"ioi:{path}{options}", Words(longest=5))


FACTS = [
    {"subject": s, "attribute": a, "prompt": f"{s} is owned by", "relation_id": r}
    for s, a, r in (("Beats", "Apple", "P1"), ("Bing", "Microsoft", "P1"), ("Bo", "Asia", "P2"))
]


def test_known_facts_are_told_from_their_relation(write, encode):
    task = load(f"known_facts:{write(json.dumps(FACTS))}", encode)
    assert [(e.answer, e.distractors) for e in task.examples] == [
        (" Apple", (" Microsoft",)),
        (" Microsoft", (" Apple",)),
        (" Asia", ()),
    ]
    path = write(json.dumps(FACTS[0]) + "\n" + json.dumps({"subject": "x"}))
    with pytest.raises(TaskError, match=r"line 2: no field 'attribute'"):
        load(f"known_facts:{path}", encode)


COUNTRIES = [
    {"country": "Spain", "city": "Madrid"},
    {"country": "Antarctica", "city": None},
    {"country": "Mexico", "city": "Mexico City"},
    {"country": "Singapore", "city": "Singapore"},
]


def test_capitals_both_ways(write, encode):
    path = write(json.dumps(COUNTRIES))
    task = load(f"capitals:{path}", encode)
    assert [e.prompt + e.answer for e in task.examples] == [
        "The capital of Spain is Madrid",
        "The capital of Mexico is Mexico City",
    ]
    assert task.dropped == (
        "1 of 4 countries have no capital",
        "1 of 4 countries are named in their own prompt",
    )
    task = load(f"capitals:{path}:ask=country", encode)
    assert [e.prompt + e.answer for e in task.examples] == ["Madrid is located in Spain"]
    with pytest.raises(TaskError, match="expected capital or country"):
        load(f"capitals:{path}:ask=x", encode)
