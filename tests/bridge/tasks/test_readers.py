import json
import re

import pytest

from tests.bridge.words import Words
from truncated_weights.bridge import tasks
from truncated_weights.bridge.tasks import TaskError
from truncated_weights.bridge.tasks.general import lre, pairs, plain_jsonl

RELATION = {
    "name": "fruit colour",
    "prompt_templates": ["{} are"],
    "prompt_templates_zs": ["The colour of {} is"],
    "properties": {"relation_type": "commonsense"},
    "samples": [
        {"subject": "limes", "object": "green"},
        {"subject": "lemons", "object": "yellow"},
        {"subject": "apples", "object": "red"},
        {"subject": "apples", "object": "green"},
    ],
}


def test_relations(write):
    path = write(json.dumps(RELATION, indent=1))
    examples = lre.read(path)
    assert [e.prompt for e in examples][:2] == ["The colour of limes is", "The colour of lemons is"]
    assert set(examples[0].distractors) == {" yellow", " red"}
    # Both colours of apples are right, so neither is a distractor of the other.
    assert [set(e.distractors) for e in examples[2:]] == [{" yellow"}, {" yellow"}]
    assert lre.read(path, zero_shot=False)[0].prompt == "limes are"
    assert len(lre.read(path, num_distractors=1)[0].distractors) == 1


def test_bigbench_and_its_spaces(write):
    lines = [
        {"context": "The country of Prambanan is", "continuation": "Indonesia"},
        {"prompt": "25 - 759 =", "continuation": " -734"},
        {"input": "Answer: ", "target": "yes"},
    ]
    path = write("\n".join(map(json.dumps, lines)) + "\n\n", "x.jsonl")
    texts = [e.prompt + e.answer for e in pairs.read(path)]
    assert texts == ["The country of Prambanan is Indonesia", "25 - 759 = -734", "Answer: yes"]
    kept = pairs.read(path, add_space=False)
    assert kept[0].answer == "Indonesia"
    # The space that ends a prompt is moved, not lost.
    assert (kept[2].prompt, kept[2].answer) == ("Answer:", " yes")


def test_plain_lines_keep_numbers_and_kind(write):
    row = {
        "prompt": "Madrid is in",
        "answer": " Spain",
        "distractors": ["France", " Spain", "France"],
        "kind": "place",
        "frequency": 0.25,
        "p_the": 1,
        "seen": True,
        "comment": None,
    }
    (example,) = plain_jsonl.read(write(json.dumps(row), "x.jsonl"))
    assert example.distractors == (" France",)
    assert example.group == "place"
    assert example.covariates == {"frequency": 0.25, "p_the": 1.0}


def test_files_by_name_and_a_part_of_them(write):
    rows = [{"prompt": f"{i} comes before", "answer": str(i + 1)} for i in range(30)]
    path = write("\n".join(map(json.dumps, rows)), "numbers.jsonl")
    whole = tasks.load(f"jsonl:{path}", Words())
    assert (whole.name, len(whole.examples)) == ("numbers", 30)
    some = tasks.load(f"jsonl:{path}", Words(), count=10, seed=1)
    numbers = [int(e.prompt.split()[0]) for e in some.examples]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 10
    assert some.dropped == ("10 of 30 examples chosen at random",)
    bare = tasks.load(f"bigbench:{path}", Words(), add_space=False)
    assert bare.examples[0].answer == "1"


GOOD = '{"prompt": "a", "answer": "b"}\n'
BAD = [
    (plain_jsonl, GOOD + '{"prompt": "a"', 2, "not JSON"),
    (plain_jsonl, GOOD + "\n" + '{"prompt": "a"}', 3, "no field 'answer'"),
    (plain_jsonl, GOOD + '{"prompt": 3, "answer": "b"}', 2, "'prompt' is a number"),
    (plain_jsonl, GOOD + '{"prompt": " ", "answer": "b"}', 2, "'prompt' is blank"),
    (plain_jsonl, GOOD + '["a", "b"]', 2, "expected an object, found a list"),
    (plain_jsonl, '{"prompt": "a", "answer": "b", "distractors": "c"}', 1, "a list of strings"),
    (plain_jsonl, '{"prompt": "a", "answer": "b", "distractors": [null]}', 1, "holds null"),
    (
        plain_jsonl,
        '{"prompt": "a", "answer": "b", "answer": "c"}',
        1,
        "the key 'answer' occurs twice",
    ),
    (plain_jsonl, '{"prompt": "a", "answer": "b", "x": NaN}', 1, "NaN"),
    (plain_jsonl, GOOD.encode() + b'{"prompt": "\xff"}', 2, "not UTF-8"),
    (plain_jsonl, "[" * 100_000, 1, "nested too deeply"),
    (plain_jsonl, "\n\n", None, "no examples"),
    (pairs, '{"context": "a"}', 1, "no field 'continuation' or 'answer' or 'target'"),
    (pairs, '{"continuation": "a"}', 1, "no field 'context'"),
    (lre, "[]", 1, "does not hold an object"),
    (lre, '{"samples": 3}', 1, "'samples' is a number"),
    (lre, json.dumps({"samples": RELATION["samples"]}), 1, "'prompt_templates'"),
    (lre, json.dumps(RELATION | {"prompt_templates_zs": ["no"]}), 1, "exactly one {}"),
    (lre, json.dumps(RELATION | {"samples": []}), None, "no examples"),
    (
        lre,
        '{"prompt_templates": ["{} is"],\n "samples": [\n{"subject": "a", "object": "b"},\n'
        '{"subject": "c"}]}',
        4,
        "no field 'object'",
    ),
]


@pytest.mark.parametrize(("reader", "content", "line", "problem"), BAD)
def test_malformed_files_give_one_line_with_file_and_place(write, reader, content, line, problem):
    path = write(content)
    with pytest.raises(TaskError) as caught:
        reader.read(path)
    message = str(caught.value)
    place = f"{path}: " if line is None else f"{path}, line {line}: "
    assert message.startswith(place)
    assert problem in message
    assert "\n" not in message


def test_truncated_files_are_refused_cleanly(write):
    """Prefixes of good files: an error with the file's name, or a whole shorter list."""
    for reader, text in (
        (lre, json.dumps(RELATION)),
        (plain_jsonl, GOOD * 2),
    ):
        whole = reader.read(write(text))
        for end in range(0, len(text), 7):
            path = write(text[:end])
            problem, found = None, []
            try:
                found = reader.read(path)
            except TaskError as error:
                problem = str(error)
            assert problem is None or problem.startswith(str(path))
            assert found == whole[: len(found)]
            assert problem is not None or reader is plain_jsonl


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(TaskError, match=re.escape(str(tmp_path))):
        lre.read(tmp_path)
