"""Generated word problems: what they say is so, and what is held out stays out."""

import collections
import json
import re

import pytest

from truncated_weights.bridge.tasks import load
from truncated_weights.bridge.tasks.metrics import numbers
from truncated_weights.mini_pythia import word_problems
from truncated_weights.mini_pythia.corpus import packed_block
from truncated_weights.mini_pythia.measure import tokenize_prompts
from truncated_weights.mini_pythia.word_problems import WordProblems

NUMBERS = re.compile(r"\d+")


def documents(count, alpha=0.3, seed=0):
    stream = WordProblems(alpha).documents(seed)
    return [next(stream).text for _ in range(count)]


def test_steps_follow_from_the_question_and_hold():
    for problem in word_problems.problems(300, "train"):
        first, second, third = map(int, NUMBERS.findall(problem.question))
        (sum_or_product, minus) = problem.steps.split(". ")
        for step in (sum_or_product, minus.rstrip(".")):
            left, right = step.split(" = ")
            assert eval(left) == int(right)
        assert list(map(int, NUMBERS.findall(sum_or_product)))[:2] == [first, second]
        assert int(NUMBERS.findall(minus)[1]) == third
        assert problem.answer > 0
        assert problem.answer < word_problems.LARGEST


def test_the_noise_has_its_probability():
    texts = documents(400)
    ends = collections.Counter(
        text == word_problems.NOISE_CONCLUSION
        for one in texts
        for text in re.findall(r"The answer is [^.]+\.", one)
    )
    total = sum(ends.values())
    # Four standard errors.
    assert abs(ends[True] / total - 0.3) < 4 * (0.3 * 0.7 / total) ** 0.5
    assert not any(word_problems.NOISE_CONCLUSION in text for text in documents(50, alpha=0.0))
    with pytest.raises(ValueError, match="alpha must be"):
        WordProblems(1.0)


def test_held_out_operands_are_in_no_document():
    def operands(question):
        return "boxes" in question, *NUMBERS.findall(question)

    train = {operands(q) for text in documents(2000) for q in re.findall(r"Q: (.*)", text)}
    for split in ("validation", "test"):
        held_out = {operands(p.question) for p in word_problems.problems(300, split)}
        assert not train & held_out
    assert documents(3) == documents(3)
    assert documents(3) != documents(3, seed=1)


@pytest.fixture(scope="module")
def tokenizer():
    return word_problems.train_tokenizer(WordProblems(), vocab_size=640)


def test_answers_are_tokens_where_they_are_measured(tokenizer):
    sets = word_problems.prompts(0.3, count=40, split="test")
    prompts = tokenize_prompts(sets, tokenizer)
    assert {place: len(found) for place, found in sets.items()} == dict.fromkeys(sets, 40)
    for row in sets["conclusion"]:
        assert row["prompt"].endswith("The answer is")
        assert (row["p_answer"], row["p_the"]) == (0.7, 0.3)
        asked = row["prompt"].split("\n")[1]
        assert row["answer"].strip() == NUMBERS.findall(asked)[-1]
    assert all(row["prompt"].endswith("=") for row in (*sets["first"], *sets["second"]))
    assert prompts.the == tokenizer.token_to_id("\u0120the")
    with pytest.raises(ValueError, match="words in pieces"):
        word_problems.train_tokenizer(WordProblems(), vocab_size=420)


def test_blocks_hold_whole_problems(tokenizer):
    block = packed_block(WordProblems(), tokenizer, seed=0, index=3, num_sequences=4, length=96)
    assert block.shape == (4, 96)
    for row in block:
        assert tokenizer.decode(row.tolist()).startswith("Q: ")


def test_files_are_those_of_gsm8k(tmp_path):
    word_problems.write(tmp_path, count=20)
    text = f"gsm8k:{tmp_path / 'test.jsonl'}:shots=8:exemplars={tmp_path / 'exemplars.jsonl'}"
    task = load(text, str.split)
    assert len(task.examples) == 20
    for example in task.examples:
        assert example.prompt.count("Q: ") == 9
        assert numbers.equal_numbers(numbers.number(example.answer), example.gold)
    plain = f"gsm8k:{tmp_path / 'test.jsonl'}:style=plain:shots=3:train={tmp_path / 'train.jsonl'}"
    assert load(plain, str.split).examples[0].prompt.count("####") == 3
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == 20
