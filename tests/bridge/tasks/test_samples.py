"""Readers on public samples of the real data: counts, filters and token counts of the notes."""

import collections

import pytest

from truncated_weights.bridge.tasks import load

# name, options, file, examples, what was left out
SAMPLES = [
    (
        "counterfact",
        "counterfact_pythia/full_data_sampled_pythia-6.9b_with_subjects.json",
        10_000,
        0,
    ),
    ("fever", "fever/paper_dev_606.jsonl", 410, 2),
    ("hotpotqa", "hotpotqa/dev_simplified_300.json", 298, 1),
    ("truthfulqa", "truthfulqa/mc_task_v0_150.json", 1095, 0),
    ("epistemic", "bigbench/epistemic_reasoning_300.json", 300, 0),
    ("causal", "bigbench/causal_judgment_60.json", 60, 0),
    ("web_of_lies", "bigbench/web_of_lies_100.json", 100, 0),
    ("wikidata", "qa_wikidata/bigbench_qa_wikidata.jsonl", 20_321, 0),
    ("cb", "superglue/CB_val_56.jsonl", 56, 0),
    ("rte", "superglue/RTE_val_100.jsonl", 100, 0),
    ("copa", "superglue/COPA_val_100.jsonl", 100, 0),
    ("gsm8k", "gsm8k/test_200.jsonl", 200, 0),
    ("known_facts", "known_1000/known_1000.json", 1209, 0),
    ("capitals", "capitals/country-by-capital-city.json", 228, 2),
]


@pytest.mark.parametrize(("name", "file", "count", "filters"), SAMPLES)
def test_counts(samples, neox, name, file, count, filters):
    task = load(f"{name}:{samples / file}", neox)
    assert len(task.examples) == count
    assert len(task.dropped) == filters


def constants(task):
    counts = collections.Counter(e.answer for e in task.examples)
    return {answer.strip(): count for answer, count in counts.items()}


def test_answers_are_distributed_as_noted(samples, neox):
    def of(name, file):
        return constants(load(f"{name}:{samples / file}", neox))

    assert of("truthfulqa", SAMPLES[3][1])["false"] == 616
    assert of("epistemic", SAMPLES[4][1])["entailment"] == 122
    assert of("cb", SAMPLES[8][1])["contradicts"] == 28
    assert of("copa", SAMPLES[10][1])["1"] == 55


def test_closed_answers_are_tokens_as_noted(neox):
    from truncated_weights.bridge.tasks.laser import bias_in_bios, big_bench
    from truncated_weights.bridge.tasks.laser.prompts import TRUE_FALSE, YES_NO

    single = (*TRUE_FALSE, *YES_NO, *bias_in_bios.GENDERS, *bias_in_bios.ASKED)
    assert {len(neox(text)) for text in single} == {1}
    assert [len(neox(text)) for text in big_bench.ENTAILMENT] == [2, 5]
    assert len(neox(" entails")) == 1


def test_sums_and_products_are_four_tokens_and_one(neox):
    for name in ("integer_sums", "integer_products"):
        task = load(name, neox)
        assert {len(neox(e.prompt)) for e in task.examples} == {4}
        assert {len(neox(e.answer)) for e in task.examples} == {1}


def test_eight_shots_are_as_long_as_noted(samples, neox):
    shots = samples / "gsm8k" / "cot_exemplars.jsonl"
    task = load(f"gsm8k:{samples / 'gsm8k' / 'test_200.jsonl'}:shots=8:exemplars={shots}", neox)
    lengths = [len(neox(e.prompt)) for e in task.examples]
    # 602 to 790 tokens over all 1,319 problems; these 200 are among them.
    assert 602 < min(lengths) <= max(lengths) <= 790
    assert min(lengths) == 629
    shared = task.examples[0].prompt[: task.examples[0].prompt.rindex("Q: ")]
    assert all(e.prompt.startswith(shared) for e in task.examples)
    assert len(neox(shared)) == 602


def test_answers_that_stand_in_the_question(samples, neox):
    """The fault of the published `contains`: nearly a tenth of the full validation split."""
    task = load(f"hotpotqa:{samples / SAMPLES[2][1]}", neox)
    inside = [e for e in task.examples if e.answer.strip().lower() in e.prompt.lower()]
    assert 0.05 < len(inside) / len(task.examples) < 0.15


def test_stories_of_the_real_templates(samples, neox):
    task = load(f"ioi:{samples / 'ioi' / 'ioi_templates.json'}", neox)
    assert len(task.examples) == 100
    for example in task.examples:
        assert example.prompt.count(example.answer) == 1
        assert example.prompt.count(example.distractors[0]) == 2
        assert "[" not in example.prompt
