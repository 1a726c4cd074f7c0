"""Numbers and texts as sentences have them: signs, currencies, emphasis, Unicode forms."""

from decimal import Decimal

import pytest

from truncated_weights.bridge import encoding
from truncated_weights.bridge.tasks import Example, TaskError
from truncated_weights.bridge.tasks.example import spaced
from truncated_weights.bridge.tasks.metrics import numbers, text

CAFE, CAFE_APART = "Caf\N{LATIN SMALL LETTER E WITH ACUTE}", "Cafe\N{COMBINING ACUTE ACCENT}"


@pytest.mark.fault("A7")
@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("**42**. Done in 3 steps.", 42),
        ("The answer is **42**. Done in 3 steps.", 42),
        ("The answer is: __42.__ I took 3 steps.", 42),
        (r"\boxed{42}. Checked 3 times.", 42),
        (r"The answer is $\boxed{42}$. Checked 3 times.", 42),
        (r"The answer is \(\text{42}\). Checked 3 times.", 42),
        ("The answer is €18. There were 3.", 18),
        ("€18. There were 3.", 18),
        (" -$18.50!\nThere were 3.", Decimal("-18.5")),
        ("€18 each. There were 3.", 3),
        ("$5. He buys 3, so 3*5 = 15", 15),
        ("1. He has 3 bags.\n2. That makes 12", 12),
        (r"The answer is \$1,018.50. There were 3.", Decimal("1018.50")),
        ("The answer is \N{MINUS SIGN}7. There were 3.", -7),
        ("\N{MINUS SIGN}7", -7),
        ("-£7", -7),
        ("so 16\N{MINUS SIGN}3", 3),
        ("1,2,3", 3),
        ("1,080,000", 1080000),
        ("the pairs are 1,234,5", 5),
        ("He has **3** bags of 4, so 3*4 = 12", 12),
    ],
)
def test_the_number_of_a_sentence(said, number):
    assert numbers.number(said) == number
    assert numbers.number(said.replace("The answer is", "####"), "plain") == number


@pytest.mark.fault("A7")
def test_several_numbers_are_no_number():
    assert numbers.value("1,2,3") is None
    assert numbers.value("3 4") is None
    assert numbers.value(" €1,080. ") == 1080
    assert numbers.value("$\N{MINUS SIGN}7") == -7


@pytest.mark.fault("A7")
def test_equal_texts_in_another_unicode_form_are_equal():
    assert text.contains(f" the {CAFE_APART} of", CAFE)
    assert text.contains(f" the {CAFE} of", CAFE_APART)
    assert text.contains(" New\N{NO-BREAK SPACE}York", "New York")
    assert text.token_f1(CAFE_APART, CAFE) == 1
    assert text.top_k_decoded([f" {CAFE_APART}"], CAFE, 1)
    with pytest.raises(TaskError, match="is among the distractors"):
        Example("At the", f" {CAFE}", (f" {CAFE_APART}",))
    one = spaced("At the", CAFE, [" bar", CAFE_APART, "bar", "inn"])
    assert one.distractors == (" bar", " inn")


def letters(text):
    """A tokenizer that knows no case."""
    return [ord(letter) for letter in text.lower().replace(" the", "~")]


@pytest.mark.fault("A7")
def test_a_distractor_with_the_tokens_of_the_answer_is_left_out_and_told():
    given = [
        Example("At the", " Bar", (" inn", " bar", " pub")),
        Example("At the", " in", (" IN",)),
    ]
    encoded = encoding.encode_examples(given, letters, num_tokens=300)
    assert [e.distractors for e in encoded.examples] == [(" inn", " pub"), ()]
    assert [len(places) for places in encoded.places] == [2, 0]
    assert not encoded.vocabulary.rivals
    assert encoded.dropped == (
        "distractors with the tokens of their answer, left out: ' IN', ' bar'",
    )
