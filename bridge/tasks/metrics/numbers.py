"""The number that a worked solution ends in: GSM8K as published, and compared as a number.

The published matches compare texts. Strict takes the first "The answer is N." (of plain
examples, "#### N"), flexible the last thing that looks like a number; both then drop every
comma and dollar sign and one final stop. Their faults are kept, because published figures
were made with them:

    "... is 42"      strict: 4, for its final "." stands for any sign
    "... is 8"       strict: nothing         "... is $18."    strict: nothing
    "so 3 ... "      flexible: "...", then ".."
    "18.00"          neither equals 18

Our own comparison reads a number as it stands in a sentence: with either sign for minus, any
currency, commas only between groups of three ("1,2,3" ends in 3), and inside the emphasis of
Markdown or LaTeX.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Literal

STRICT = re.compile(r"The answer is (\-?[0-9\.\,]+).")
STRICT_PLAIN = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

_MINUS = "-\N{MINUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{SMALL HYPHEN-MINUS}"
_CURRENCY = "$€£¥₹₩₽₺₫₴₦¢\N{FULLWIDTH DOLLAR SIGN}"
# A minus sign is one only where nothing stands before it: 16-3 ends in 3.
_SIGN = rf"(?:(?<![\w.)])[{_MINUS}])?(?:\\?[{_CURRENCY}]\s?[{_MINUS}]?)?"
_NUMBER = rf"{_SIGN}(?:\d{{1,3}}(?:,\d{{3}})+(?![\d,]*\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_AMOUNT = rf"(?=[{_MINUS}]?\\?[{_CURRENCY}]){_NUMBER}"
_LAST = re.compile(_NUMBER)
_WHOLE = re.compile(rf"\s*{_NUMBER}[.\s]*")
# What may stand between "the answer is" and its number: **42**, $\boxed{42}$, "42", = 42.
_MARKUP = r"(?:[\s:=*_`\"'“‘(\[{]|\\(?:boxed|fbox|text\w*|math\w*|left)\b|\\[(\[]|\$(?=\s*\\))*"
_CONCLUDED = {
    "thought": re.compile(rf"answer is{_MARKUP}({_NUMBER})", re.IGNORECASE),
    "plain": re.compile(rf"####{_MARKUP}({_NUMBER})"),
}
_BOXED = re.compile(rf"\\(?:boxed|fbox)\{{{_MARKUP}({_NUMBER})")
# A number in bold that no equation follows: what is written in bold on the way is no result.
_BOLD = re.compile(rf"(?:\*\*|__)\s*({_NUMBER})\.?\s*(?:\*\*|__)(?!.*=)", re.DOTALL)
# An amount of money that is the whole first sentence: the answer, and then why.
_FIRST = re.compile(rf"\A\W*?({_AMOUNT})(?:[.!]\s|\n)(?!.*=)", re.DOTALL)

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

    A conclusion is "the answer is N" or "#### N", with or without a currency, emphasis or a
    final stop, at the end of the text too; where there is none, a number in a box, then one in
    bold, then an amount of money that the text begins with, as a sentence of its own.
    """
    for pattern in (_CONCLUDED[form], _BOXED, _BOLD, _FIRST, _LAST):
        if found := pattern.findall(generated):
            return value(found[-1])
    return None


def equal_numbers(found: Decimal | None, gold: str) -> bool:
    """Whether they are one number: 18.00 is 18, and 1,080 is 1080."""
    return found is not None and found == value(gold)


def value(text: str) -> Decimal | None:
    """The number that a text is, None where it is none, or several."""
    if not _WHOLE.fullmatch(text):
        return None
    bare = re.sub(rf"[\s,\\{_CURRENCY}]", "", text).rstrip(".")
    bare = re.sub(f"[{_MINUS}]", "-", bare)
    try:
        found = Decimal(bare)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _published(text: str) -> str:
    bare = text.replace(",", "").replace("$", "")
    return bare.removesuffix(".")
