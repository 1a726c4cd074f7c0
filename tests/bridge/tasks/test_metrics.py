"""Marking: worked examples, published faults, brute force over small tables."""

import collections
import math
from decimal import Decimal

import numpy as np
import pytest

from truncated_weights.bridge.tasks import Example, Marking
from truncated_weights.bridge.tasks.metrics import closed, generated, numbers, text


def test_contains_is_of_the_answer_alone():
    prompt = "Are Ann and Bob of one nationality, yes or no? The answer is"
    assert text.contains(" YES, they are", "yes ")
    assert not text.contains(" No.", "yes")
    assert text.contains_with_prompt(prompt, " No.", "yes")
    assert text.answer_in_prompt(prompt, "yes")
    assert not text.answer_in_prompt("Who wrote it? The answer is", "Ada")


@pytest.mark.parametrize(
    ("said", "answer", "expected"),
    [
        ("the cat sat", "cat", 0.5),
        ("Cat", "cat", 1.0),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        # Sets: said is {chief, of, protocol, "."}, right {chief, of, protocol}.
        ("Chief of of Protocol.", "Chief of Protocol", 6 / 7),
    ],
)
def test_token_f1(said, answer, expected):
    assert text.token_f1(said, answer) == pytest.approx(expected)


def test_losses_of_answers():
    log_p, tokens = np.log([0.25, 0.5]), np.array([2, 1])
    assert text.log_loss(log_p, tokens) == pytest.approx((math.log(4) / 2 + math.log(2)) / 2)
    # Three tokens whose probabilities multiply to 1/8.
    assert text.answer_perplexity(log_p, tokens) == pytest.approx(2.0)
    assert text.top_k(np.array([1, 5, 6, 11]), 5) == 0.5
    assert text.top_k_decoded([" The", " spain", "x"], " Spain", 2)
    assert not text.top_k_decoded([" The", " spain", "x"], " Spain", 1)


MATCHES = [
    # generated, strict, flexible, the number
    (" 2 + 40 = 42. The answer is 42.", "42", "42", 42),
    (" The answer is 42", "4", "42", 42),
    (" The answer is 8", None, "8", 8),
    (" The answer is $18.", None, "18", 18),
    (" The answer is 1,080.", "1080", "1080", 1080),
    (" The answer is 18.00.", "18.00", "18.00", 18),
    (" so 3 apples are left...", None, "..", 3),
    (" The answer is 5. No: the answer is 6.", "5", "6", 6),
    (" nothing at all", None, None, None),
    (" 16-3", None, "-3", 3),
    (" The answer is -7.", "-7", "-7", -7),
]


@pytest.mark.parametrize(("said", "strict", "flexible", "number"), MATCHES)
def test_published_matches_keep_their_faults_and_numbers_do_not(said, strict, flexible, number):
    assert numbers.strict(said) == strict
    assert numbers.flexible(said) == flexible
    assert numbers.number(said) == (None if number is None else Decimal(number))


def test_comparisons():
    assert numbers.equal_texts("1080", "1,080")
    assert not numbers.equal_texts("18.00", "18")
    assert not numbers.equal_texts(None, "18")
    assert numbers.equal_numbers(numbers.number("The answer is $18.00"), "18")
    assert not numbers.equal_numbers(None, "18")
    assert not numbers.equal_numbers(numbers.value("1.5"), "15")
    said = " 9*2=<<9*2=18>>18\n#### 18"
    assert numbers.strict(said, "plain") == "18"
    assert numbers.number(said, "plain") == 18
    assert numbers.value("...") is None


def test_gold_solutions_are_found_right(samples):
    """On published solutions themselves comparison as numbers never errs."""
    from truncated_weights.bridge.tasks.gsm8k import problems

    found = problems.read(samples / "gsm8k" / "test_200.jsonl")
    for problem in found:
        said = f"{problem.steps} The answer is {problem.gold}."
        assert numbers.equal_numbers(numbers.number(said), problem.gold)
        assert numbers.equal_numbers(numbers.number(problem.written, "plain"), problem.gold)
        assert numbers.equal_texts(numbers.strict(said), problem.gold)


def test_choices_by_sum_favour_the_short():
    log_p = np.array([[-2.0, -5.0], [-4.0, -5.0], [-3.0, -3.0]])
    tokens = np.array([[2, 5], [2, 5], [1, 1]])
    assert closed.choose(log_p).tolist() == [0, 0, 0]
    assert closed.choose(log_p, tokens).tolist() == [0, 1, 0]


def by_hand(chosen, right, options):
    """Accuracy, kappa and macro F1 from counts of pairs, as their definitions read."""
    pairs, n = collections.Counter(zip(chosen, right, strict=True)), len(chosen)
    accuracy = sum(pairs[k, k] for k in range(options)) / n
    chance = sum((chosen.count(k) / n) * (right.count(k) / n) for k in range(options))
    scores = []
    for k in set(right):
        precision = pairs[k, k] / max(1, chosen.count(k))
        recall = pairs[k, k] / right.count(k)
        both = precision + recall
        scores.append(2 * precision * recall / both if both else 0.0)
    return accuracy, (accuracy - chance) / (1 - chance), sum(scores) / len(scores)


def test_report_against_counts():
    rng = np.random.default_rng(0)
    for options in (2, 3, 8):
        chosen, right = rng.integers(0, options, (2, 40))
        found = closed.report(chosen, right, options)
        accuracy, kappa, f1 = by_hand(chosen.tolist(), right.tolist(), options)
        assert found.accuracy == pytest.approx(accuracy)
        assert found.kappa == pytest.approx(kappa)
        assert found.macro_f1 == pytest.approx(f1)
        assert found.low <= accuracy <= found.high
        assert found.kappa_low <= kappa <= found.kappa_high


def test_a_constant_is_called_so():
    """TruthfulQA's shape: 56 % false, a model that says false to everything."""
    right = np.array([0] * 44 + [1] * 56)
    found = closed.report(np.ones(100, int), right, 2)
    assert found.best_constant == (1, 0.56)
    assert found.commonest == (1, 1.0)
    assert found.constant
    assert not found.beats_constant
    assert found.kappa == 0
    assert found.verdict((" true", " false")).startswith("says ' false' to 100.0%: a constant")
    # Right now and then by chance alone: not constant, and worth nothing.
    guesses = np.random.default_rng(1).permutation(right)
    found = closed.report(guesses, right, 2)
    assert not found.constant
    assert found.kappa_low < 0 < found.kappa_high
    assert "not shown to be better than ' false'" in found.verdict((" true", " false"))
    found = closed.report(right, right, 2)
    assert (found.accuracy, found.kappa, found.macro_f1) == (1, 1, 1)
    assert "better than ' false' to everything (56.0%)" in found.verdict((" true", " false"))


def test_items_are_drawn_together():
    """Copies of an example add no evidence: the interval is that of the items."""
    rng = np.random.default_rng(2)
    chosen, right = rng.integers(0, 2, (2, 50))
    once = closed.report(chosen, right, 2)
    items = np.repeat(np.arange(50), 10)
    copied = closed.report(np.repeat(chosen, 10), np.repeat(right, 10), 2, items=items)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    naive = closed.report(np.repeat(chosen, 10), np.repeat(right, 10), 2)
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_one_option_everywhere_has_no_kappa():
    found = closed.report(np.zeros(5, int), np.zeros(5, int), 2)
    assert math.isnan(found.kappa)
    assert math.isnan(found.kappa_low)
    with pytest.raises(ValueError, match="beyond the 2"):
        closed.report(np.array([2]), np.array([0]), 2)
    with pytest.raises(ValueError, match="no examples"):
        closed.report(np.zeros(0, int), np.zeros(0, int), 2)


def test_marks_of_generated_texts():
    asked = Example("Were Ann and Bob English, yes or no? The answer is", " yes")
    found = generated.marks(asked, " no", Marking("contains", 15))
    assert tuple(found) == generated.NAMES["contains"]
    assert found == {"contains": 0, "contains_published": 1, "f1": 0, "answer_in_prompt": 1}

    problem = Example("Q: 20 - 2?\nA:", " It is 18. The answer is 18.", gold="18")
    thought, plain = Marking("number", 9, ("Q:",)), Marking("number", 9, (), "plain")
    said = generated.cut(" 20 - 2 = 18. The answer is $18.\n\nQ: 1?\nA: The answer is 1.", ("Q:",))
    assert said == " 20 - 2 = 18. The answer is $18.\n\n"
    found = generated.marks(problem, said, thought)
    assert tuple(found) == generated.NAMES["number"]
    assert found == {"number": 1, "strict": 0, "flexible": 1, "concluded": 0}
    found = generated.marks(problem, " It is 18.\n#### 18", plain)
    assert found == {"number": 1, "strict": 1, "flexible": 1, "concluded": 1}
    with pytest.raises(ValueError, match="generates no text"):
        generated.marks(problem, "", Marking("top1"))


def test_the_first_stop_ends_a_text():
    assert generated.cut("a</s>b Q: c", ("Q:", "</s>")) == "a"
    assert generated.cut("a", ("Q:",)) == "a"
