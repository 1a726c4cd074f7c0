"""Prompts of GSM8K in its three styles, and what of a solution is kept."""

import json
import re

import pytest

from truncated_weights.bridge.tasks import TaskError, load
from truncated_weights.bridge.tasks.gsm8k import problems

ROW = {
    "question": "Ada has 2 boxes of 540 pens. How many pens? ",
    "answer": "She has 2*540=<<2*540=1080>>1080 pens.\nThat is all.\n#### 1,080",
}
SHOTS = [
    {"question": "What is 1 + 1?", "target": "1 + 1 is 2. The answer is 2."},
    {"question": "What is 2 + 2?", "target": "2 + 2 is 4. The answer is 4."},
]


@pytest.fixture
def files(write):
    train = [{"question": f"What is {i} + 0?", "answer": f"It is {i}.\n#### {i}"} for i in range(9)]
    return {
        "test": write(json.dumps(ROW), "test.jsonl"),
        "shots": write("\n".join(map(json.dumps, SHOTS)), "shots.jsonl"),
        "train": write("\n".join(map(json.dumps, train)), "train.jsonl"),
    }


QUESTION = "Ada has 2 boxes of 540 pens. How many pens?"


def test_worked_examples_come_first_and_in_order(files, encode):
    task = load(f"gsm8k:{files['test']}:shots=2:exemplars={files['shots']}", encode)
    (example,) = task.examples
    assert example.prompt == (
        "Q: What is 1 + 1?\nA: 1 + 1 is 2. The answer is 2.\n\n"
        "Q: What is 2 + 2?\nA: 2 + 2 is 4. The answer is 4.\n\n"
        f"Q: {QUESTION}\nA:"
    )
    assert example.answer == " She has 2*540=1080 pens. That is all. The answer is 1,080."
    assert example.gold == "1,080"
    assert task.marking.stop == ("Q:", "</s>", "<|im_end|>")
    one = load(f"gsm8k:{files['test']}:shots=1:exemplars={files['shots']}", encode)
    assert one.examples[0].prompt.count("Q: ") == 2


def test_the_other_styles(files, encode):
    (example,) = load(f"gsm8k:{files['test']}:style=zero", encode).examples
    assert example.prompt == f"Q: {QUESTION}\nA: Let's think step by step."
    text = f"gsm8k:{files['test']}:style=plain:shots=3:train={files['train']}"
    task = load(text, encode)
    prompt = task.examples[0].prompt
    # Training rows as they are published, drawn by seed, no row twice.
    drawn = re.findall(r"Question: What is (\d) \+ 0\?\nAnswer: It is \1\.\n#### \1\n\n", prompt)
    assert len(set(drawn)) == 3
    assert prompt.endswith(f"\n\nQuestion: {QUESTION}\nAnswer:")
    assert task.examples[0].answer == f" {ROW['answer']}"
    assert task.marking.stop[0] == "Question:"
    assert load(text, encode) == task
    assert load(f"{text}:seed=1", encode) != task


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("shots=1", "shots need exemplars=FILE"),
        ("shots=3:exemplars={shots}", "has 2"),
        ("shots=-1", "below zero"),
        ("shots=two", "expected a whole number"),
        ("style=zero:shots=1", "takes no shots"),
        ("style=plain:shots=1", "needs train=FILE"),
        ("style=plain:shots=10:train={train}", "has 9 rows"),
        ("style=cot", "expected thought or plain or zero"),
        ("steps=1", "no option 'steps' here; known are style shots exemplars train seed"),
        ("shots=1:shots=2", "shots is given twice"),
        ("shots=1:exemplars={test}", "does not end in 'The answer is N.'"),
    ],
)
def test_impossible_options(files, encode, options, problem):
    with pytest.raises(TaskError, match=re.escape(problem)):
        load(f"gsm8k:{files['test']}:{options.format(**files)}", encode)


@pytest.mark.parametrize("answer", ["It is 3.", "#### 3\n#### 4", "#### three"])
def test_a_solution_ends_in_one_number(write, answer):
    path = write("\n\n" + json.dumps({"question": "a", "answer": answer}), "x.jsonl")
    with pytest.raises(TaskError, match=r"line 3: 'answer' has [02] lines '#### NUMBER'"):
        problems.read(path)
