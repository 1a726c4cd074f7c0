"""Readers of LASER's tasks on small files made here, and the prompts as its code has them."""

import json
import re

import pytest

from truncated_weights.bridge.tasks import TaskError, load
from truncated_weights.bridge.tasks.laser import (
    bias_in_bios,
    big_bench,
    counterfact,
    fever,
    hotpotqa,
    truthfulqa,
)
from truncated_weights.bridge.tasks.laser.table import FIGURES

REWRITE = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "subject": "Ada",
        "relation_id": "P19",
        "target_new": {"str": "Rome", "id": "Q1"},
        "target_true": {"str": "London", "id": "Q2"},
    },
    "paraphrase_prompts": ["It rained. Ada's birthplace is"],
}


def lines(*rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_counterfact_with_and_without_paraphrases(write, encode):
    path = write(json.dumps([REWRITE], indent=2))
    first, second = counterfact.read([path], encode).examples
    assert (first.prompt, first.answer, first.distractors) == (
        "Ada was born in",
        " London",
        (" Rome",),
    )
    assert second.prompt == "It rained. Ada's birthplace is"
    assert first.item == second.item
    assert first.group == "P19"
    assert [e.prompt for e in load(f"counterfact:{path}:paraphrases=no", encode).examples] == [
        "Ada was born in"
    ]


def test_flat_counterfact_keeps_its_spaces(write, encode):
    row = {"base_prompt": "Ada was born in", "target_true": " London", "target_new": " Rome"}
    (example,) = counterfact.read([write(json.dumps([row]))], encode).examples
    assert example.prompt + example.answer == "Ada was born in London"
    assert example.distractors == (" Rome",)


CLAIMS = [
    {"claim": "Cats bark.", "label": "REFUTES"},
    {"claim": "Cats purr", "label": "SUPPORTS"},
    {"claim": "Cats fly.", "label": "NOT ENOUGH INFO"},
    {"claim": "Cats swim.", "label": "SUPPORTS"},
    {"claim": "Cats purr", "label": "SUPPORTS"},
    {"claim": "Cats swim.", "label": "REFUTES"},
    {"claim": "Do cats sing?", "label": "REFUTES"},
]


def test_fever_filters_and_says_so(write, encode):
    dev, test = (write(lines(*CLAIMS), "dev.jsonl"), write(lines(CLAIMS[0]), "test.jsonl"))
    task = fever.read([dev, test], encode)
    assert [e.prompt for e in task.examples] == [
        f"Consider the following claim: {claim} Is this claim true or false. The claim is"
        for claim in ("Cats bark.", "Cats purr.", "Do cats sing?", "Cats bark.")
    ]
    assert [e.answer for e in task.examples] == [" false", " true", " false", " false"]
    assert all({e.answer, *e.distractors} == set(task.closed) for e in task.examples)
    assert task.dropped == (
        "1 of 8 claims without enough information",
        "2 of 8 claims labelled both ways",
        "1 of 8 claims repeated",
    )
    # The hub gives numbers for the labels.
    numbered = write(lines({"claim": "Cats purr.", "label": 1}), "n.jsonl")
    assert fever.read([numbered], encode).examples[0].answer == " true"


def test_hotpotqa_takes_as_many_of_train_as_of_validation(write, encode):
    train = [{"question": f"Who is {i}?", "answer": f"Person {i}"} for i in range(5)]
    validation = [
        {"question": " Who wrote it ", "answer": "Ada"},
        {"question": "Name the writer.", "answer": "a b c d e f g h i j k l m n o"},
    ]
    files = [write(json.dumps(rows), f"{i}.json") for i, rows in enumerate((train, validation))]
    task = hotpotqa.read(files, encode)
    assert [e.prompt for e in task.examples] == [
        "Who is 0? The answer is",
        "Who is 1? The answer is",
        "Who wrote it? The answer is",
    ]
    assert [e.answer for e in task.examples] == [" Person 0", " Person 1", " Ada"]
    assert task.dropped == ("1 of 4 answers exceed 15 tokens with the first",)
    assert (task.marking.metric, task.marking.new_tokens) == ("contains", 15)
    # 15 words and the token that begins a text are 16.
    assert not hotpotqa.read(files, encode, max_answer_tokens=16).dropped


BIOS = [
    {"hard_text": "She writes. ", "profession": 11, "gender": 1},
    {"hard_text": "He pulls teeth", "profession": 6, "gender": 0},
    {"hard_text": "He builds houses", "profession": "architect", "gender": 0},
]


def test_biographies(write, encode):
    path = write(lines(*BIOS), "bios.jsonl")
    asked = bias_in_bios.gender([path], encode)
    assert [e.answer for e in asked.examples] == [" female", " male", " male"]
    assert asked.examples[0].prompt == (
        "Consider the following text: She writes. Is the person in this text a male or female? "
        "The gender of this person is"
    )
    asked = bias_in_bios.profession([path], encode)
    assert [e.answer for e in asked.examples] == [" journalist", " architect"]
    assert asked.examples[1].prompt == (
        "Consider the following text: He builds houses. What is the profession of the person in "
        "this text? The profession of this person is"
    )
    assert len(asked.examples[0].distractors) == 7
    assert asked.dropped == ("1 of 3 people have other professions",)
    assert len(bias_in_bios.PROFESSIONS) == 28
    assert list(bias_in_bios.PROFESSIONS) == sorted(bias_in_bios.PROFESSIONS)


def test_truthfulqa_of_both_layouts(write, encode):
    original = {"question": "Is it?", "mc2_targets": {"Yes.": 1, "No": 0}}
    hub = {"question": "Is it?", "mc2_targets": {"choices": ["Yes.", "No"], "labels": [1, 0]}}
    tasks = [truthfulqa.read([write(json.dumps([row]))], encode) for row in (original, hub)]
    assert tasks[0] == tasks[1]
    yes, no = tasks[0].examples
    assert yes.prompt == "Is it? Yes.Is this statement true or false? This statement is"
    assert no.prompt == "Is it? No.Is this statement true or false? This statement is"
    assert (yes.answer, no.answer) == (" true", " false")
    assert yes.item == no.item


TASK_FILE = {
    "name": "epistemic_reasoning",
    "task_prefix": "Identify the relation.\n",
    "example_input_prefix": "\n",
    "example_output_prefix": "\nRelation: ",
    "examples": [
        {
            "input": "Premise: p. Hypothesis: h.",
            "target_scores": {"entailment": 0, "non-entailment": 1},
        }
    ],
}


def test_big_bench_of_three_layouts(write, encode):
    (example,) = big_bench.epistemic([write(json.dumps(TASK_FILE, indent=1))], encode).examples
    assert example.prompt == "Identify the relation.\n\nPremise: p. Hypothesis: h.\nRelation:"
    assert (example.answer, example.distractors) == (" non-entailment", (" entailment",))
    hub = {"inputs": example.prompt, "targets": ["non-entailment"], "idx": 3}
    assert big_bench.epistemic([write(lines(hub), "x.jsonl")], encode).examples == (example,)

    story = {"task_prefix": "How?\n\n", "name": "c", "examples": [{"input": "Did he?"}]}
    story["examples"][0]["target_scores"] = {"Yes": 1, "No": 0}
    (example,) = big_bench.causal([write(json.dumps(story))], encode).examples
    # What BIG-bench puts around an input where the file does not say.
    assert (example.prompt, example.answer) == ("How?\n\n\nQ: Did he?\nA:", " Yes")

    hard = {"canary": "x", "examples": [{"input": "Question: Does Ada lie?", "target": "No"}]}
    (example,) = big_bench.web_of_lies([write(json.dumps(hard))], encode).examples
    assert (example.prompt, example.answer) == ("Question: Does Ada lie?", " No")


def test_wikidata_keeps_single_answers(write, encode):
    rows = [
        {"inputs": "The country of Prambanan is", "targets": ["Indonesia"]},
        {"inputs": "The language of Ada is", "targets": ["English", "French"]},
        {"context": "The sport of Bo is", "continuation": "golf"},
    ]
    task = big_bench.wikidata([write(lines(*rows), "x.jsonl")], encode)
    assert [e.prompt + e.answer for e in task.examples] == [
        "The country of Prambanan is Indonesia",
        "The sport of Bo is golf",
    ]
    assert task.dropped == ("1 of 3 questions have several right answers",)


def changed(**changes):
    return json.dumps([REWRITE | {"requested_rewrite": REWRITE["requested_rewrite"] | changes}])


GOOD = json.dumps(REWRITE)
BAD = [
    (counterfact.read, '{"a": 1}', 1, "no field 'base_prompt'"),
    (counterfact.read, "[]", None, "no examples"),
    (counterfact.read, "", None, "no examples"),
    (counterfact.read, "[\n{}\n]", 2, "no field 'base_prompt'"),
    (counterfact.read, "[\n{},\n]", 3, "not JSON"),
    (counterfact.read, '[\n{"base_prompt": "a",}\n]', 2, "not JSON"),
    (counterfact.read, f"[{GOOD}]x", 1, "text after the closing"),
    (counterfact.read, f"[\n{GOOD}\n{GOOD}]", 3, "expected ','"),
    (counterfact.read, f"[\n{GOOD},\n3]", 3, "found a number"),
    (counterfact.read, '[\n{"requested_rewrite": []}]', 2, "'requested_rewrite' is a list"),
    (counterfact.read, changed(prompt="born in"), 1, "exactly one {}"),
    (counterfact.read, changed(target_true="x"), 1, "'target_true' is a string"),
    (fever.read, '{"claim": "a", "label": "SUPPORTS"}\n{"claim": "b"}', 2, "no field 'label'"),
    (fever.read, '{"claim": "a", "label": "MAYBE"}', 1, "'label' is 'MAYBE'"),
    (fever.read, '{"claim": "a", "label": true}', 1, "'label' is True"),
    (fever.read, '{"claim": "a", "label": {}}', 1, "'label' is {}"),
    (fever.read, '{"claim": "a", "label": "NOT ENOUGH INFO"}', None, "no claim"),
    (hotpotqa.read, '[{"question": "a", "answer": 3}]', 1, "'answer' is a number"),
    (hotpotqa.read, '[{"question": "a", "answer": " "}]', 1, "'answer' is blank"),
    (bias_in_bios.gender, '{"hard_text": "a", "gender": 2}', 1, "'gender' is 2"),
    (bias_in_bios.gender, '{"hard_text": "a"}', 1, "no field 'gender'"),
    (bias_in_bios.profession, '{"hard_text": "a", "profession": 28}', 1, "0 to 27"),
    (bias_in_bios.profession, '{"hard_text": "a", "profession": "spy"}', 1, "none of the 28"),
    (bias_in_bios.profession, '{"hard_text": "a", "profession": "dj"}', None, "none of the"),
    (truthfulqa.read, '[{"question": "a"}]', 1, "no field 'mc2_targets'"),
    (truthfulqa.read, '[{"question": "a", "mc2_targets": {"b": 0}}]', 1, "no true option"),
    (truthfulqa.read, '[{"question": "a", "mc2_targets": {"b": 2}}]', 1, "0 or 1"),
    (
        truthfulqa.read,
        '[{"question": "a", "mc2_targets": {"choices": ["b"], "labels": [1, 0]}}]',
        1,
        "0 or 1",
    ),
    (big_bench.causal, '{"name": "c"}', 1, "no field 'examples'"),
    (
        big_bench.causal,
        '{"name": "c", "examples": [\n{"input": "a", "target_scores": {"Yes": 1, "No": 1}}]}',
        2,
        "2 right answers",
    ),
    (
        big_bench.causal,
        '{"name": "c", "examples": [\n{"input": "a", "target": "Maybe"}]}',
        2,
        "answer ' Maybe' is none of",
    ),
    (
        big_bench.causal,
        '{"name": "c", "task_prefix": 3, "examples": [{"input": "a", "target": "Yes"}]}',
        1,
        "prefix",
    ),
    (big_bench.wikidata, '[{"inputs": "a", "targets": ["b", "c"]}]', None, "no question"),
]


@pytest.mark.parametrize(("read", "content", "line", "problem"), BAD)
def test_damaged_files_are_told_with_their_line(write, encode, read, content, line, problem):
    path = write(content)
    with pytest.raises(TaskError) as caught:
        read([path], encode)
    message = str(caught.value)
    assert message.startswith(f"{path}: " if line is None else f"{path}, line {line}: ")
    assert problem in message
    assert "\n" not in message


def test_cut_off_files_are_refused_with_their_name(write, encode):
    text = json.dumps([REWRITE, REWRITE])
    for end in range(0, len(text) - 1, 7):
        path = write(text[:end])
        with pytest.raises(TaskError, match=re.escape(str(path))):
            counterfact.read([path], encode)


def test_published_figures_are_three_a_task():
    assert {len(figures) for figures in FIGURES.values()} == {3}
    gptj = FIGURES["counterfact"][1]
    assert (gptj.accuracy, gptj.accuracy_cut, gptj.cut) == (13.1, 24.0, "27.fc_in@0.01")
    # LASER calls Llama's gate fc_in.
    assert FIGURES["fever"][2].cut == "30.fc_gate@0.2"
