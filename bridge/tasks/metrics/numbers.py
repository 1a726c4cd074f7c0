"""The number that a worked solution ends in: GSM8K as published, and compared as a number.

The published matches compare texts. Strict takes the first "The answer is N." (of plain
examples, "#### N"), flexible the last thing that looks like a number; both then drop every
comma and dollar sign and one final stop. Their faults are kept, because published figures
were made with them:

    "... is 42"      strict: 4, for its final "." stands for any sign
    "... is 8"       strict: nothing         "... is $18."    strict: nothing
    "so 3 ... "      flexible: "...", then ".."
    "18.00"          neither equals 18
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Literal

STRICT = re.compile(r"The answer is (\-?[0-9\.\,]+).")
STRICT_PLAIN = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

# A minus sign is one only where nothing stands before it: 16-3 ends in 3.
_NUMBER = r"(?:(?<![\w.)])-)?(?:\$\s?-?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_LAST = re.compile(_NUMBER)
_CONCLUDED = {
    "thought": re.compile(rf"answer is:?\s*({_NUMBER})", re.IGNORECASE),
    "plain": re.compile(rf"####\s*({_NUMBER})"),
}

Form = Literal["thought", "plain"]


def strict(generated: str, form: Form = "thought") -> str | None:
    """The text of the number by the published strict match, None where it finds none."""
    found = (STRICT_PLAIN if form == "plain" else STRICT).search(generated)
    return None if found is None else _published(found[1])


def flexible(generated: str) -> str | None:
    """The text of the number by the published flexible match, None where it finds none."""
    found = FLEXIBLE.findall(generated)
    return _published(found[-1][0] or found[-1][1]) if found else None


def equal_texts(found: str | None, gold: str) -> bool:
    """The published comparison: of texts, after the same signs are dropped from gold."""
    return found is not None and found == _published(gold)


def number(generated: str, form: Form = "thought") -> Decimal | None:
    """The number a solution ends in: the last that is concluded, else the last there is.

    A conclusion is "the answer is N" or "#### N", with or without a dollar sign or a final
    stop, at the end of the text too.
    """
    concluded = _CONCLUDED[form].findall(generated)
    found = concluded or _LAST.findall(generated)
    return value(found[-1]) if found else None


def equal_numbers(found: Decimal | None, gold: str) -> bool:
    """Whether they are one number: 18.00 is 18, and 1,080 is 1080."""
    return found is not None and found == value(gold)


def value(text: str) -> Decimal | None:
    """The number that a text means, None where it means none."""
    bare = re.sub(r"[\s,$]", "", text).rstrip(".")
    try:
        found = Decimal(bare)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _published(text: str) -> str:
    bare = text.replace(",", "").replace("$", "")
    return bare.removesuffix(".")
