"""Prompts of a benchmark: random tokens, or facts as long and as alike as CounterFact's, as they
are or mixed with paraphrases as LASER asks them.
"""

import numpy as np

from truncated_weights.bridge import encoding
from truncated_weights.bridge.tasks import Example

# The 10,000 prompts of CounterFact that arXiv 2402.11655 uses have 9.0 +- 2.5 tokens of GPT-NeoX
# (28 at most), and of the places of all rows .91, .81 and .66 are beginnings of their own among
# 64, 512 and 2,000 prompts. What is drawn here has 8.8 +- 3.0 and .92, .85 and .80: it shares a
# little less, so what sharing saves is not overstated.
_TEMPLATES = 100
_NAMES, _EXPONENT = 1000, 1.2  # first tokens of subjects, and how unequal their frequencies are
_SECOND = 10  # second tokens to choose from
_SUBJECT = 12  # tokens of a subject at most
_FACT = 24  # tokens of a fact's prompt at most
# CounterFact's paraphrases are a fact in other words behind an unrelated sentence, "Shayna does
# this and Yossel goes still and dies. Danielle Darrieux, a native". Of 276 of them, from two public
# samples, the sentence has 11.4 +- 5.3 tokens of GPT-NeoX (1 to 36), the fact behind it
# 7.6 +- 2.2 (3 to 17), and the whole has more than 32 in one of 45, which decides how far rows are
# padded; in a gamma law's draws one of 45 too. Mean, deviation, fewest and most:
_SENTENCE = (11.4, 5.3, 1, 36)
_REWORDED = (7.6, 2.2, 3, 17)
# Sentences often begin alike, one in eleven with "The". Two of them have the first token in common
# with a chance of .015, the first two with .0014, three with .0010: "For services to" is often
# all the same. Of the places of 64, 128 and 256 paraphrases .984, .975 and .966 are beginnings of
# their own. What is drawn here has .984, .977 and .969: again it shares a little less.
_FIRST = 2000  # first tokens of sentences; the one of rank r is as frequent as 1 / (r + 1)
_FORMULAIC = 0.3  # the share of sentences that go on as their first token has it
_FORMULA = 4  # tokens that those of one first token have in common
# Tokens of a prompt at most.
LONGEST = {"facts": _FACT, "paraphrases": _SENTENCE[-1] + _REWORDED[-1]}


def encoded(kind: str, count: int, length: int, vocab_size: int, seed: int) -> encoding.Encoded:
    """Prompts of this kind, each with a random answer and distractor of one token."""
    draws = np.random.default_rng(seed)
    if kind == "facts":
        prompts = facts(count, vocab_size, draws)
    elif kind == "paraphrases":
        prompts = paraphrases(count, vocab_size, draws)
    else:
        prompts = draws.integers(1, vocab_size, (count, length)).tolist()
    examples = []
    for prompt in prompts:
        answer = int(draws.integers(1, vocab_size))
        # Another token than the answer, each as likely.
        distractor = 1 + (answer + int(draws.integers(vocab_size - 2))) % (vocab_size - 1)
        examples.append(Example(" ".join(map(str, prompt)), f" {answer}", (f" {distractor}",)))
    # Texts of numbers, whose tokens are those numbers.
    return encoding.encode_examples(
        examples, lambda text: [int(t) for t in text.split()], num_tokens=vocab_size, noise="7"
    )


def facts(count: int, vocab_size: int, draws: np.random.Generator) -> list[list[int]]:
    """A relation's words around a subject: [before] SUBJECT [after], as in "The mother tongue of
    Ann is". A quarter of the relations begin before their subject.
    """

    def tokens(number: int) -> list[int]:
        return draws.integers(1, vocab_size, number).tolist()

    begins = draws.random(_TEMPLATES) < 0.25
    before = [tokens(int(draws.integers(1, 6))) if begun else [] for begun in begins]
    after = [tokens(int(draws.integers(2, 7))) for _ in range(_TEMPLATES)]
    often = 1 / np.arange(1, _TEMPLATES + 1)
    known = 1 / np.arange(1, _NAMES + 1) ** _EXPONENT
    found = []
    for relation in draws.choice(_TEMPLATES, count, p=often / often.sum()):
        name = int(draws.choice(_NAMES, p=known / known.sum())) + 1
        more = min(1 + draws.geometric(0.3), _SUBJECT) - 1
        subject = [name, int(draws.integers(1, _SECOND)), *tokens(more - 1)]
        found.append([*before[relation], *subject, *after[relation]])
    return found


def paraphrases(count: int, vocab_size: int, draws: np.random.Generator) -> list[list[int]]:
    """LASER's rows of CounterFact: each fact, then twice a paraphrase of it.

    A paraphrase begins with a sentence of its own and words its fact otherwise, so it shares
    nothing with its fact or the other paraphrase; with other paraphrases it may share how
    sentences begin. What comes then is one row's alone, and only its length matters.
    """
    found = facts(count, vocab_size, draws)
    often = 1 / np.arange(2, _FIRST + 2)
    # None of them is a name, with which facts begin.
    begins = 1 + _NAMES + draws.choice(_FIRST, count, p=often / often.sum())
    for row, first in enumerate(begins.tolist()):
        if row % 3:
            # The formula of a token is that token repeated: any would do.
            begun = [first] * (_FORMULA if draws.random() < _FORMULAIC else 1)
            number = _number(draws, *_SENTENCE) + _number(draws, *_REWORDED)
            rest = draws.integers(1, vocab_size, number - len(begun))
            found[row] = [*begun, *rest.tolist()]
    return found


def _number(
    draws: np.random.Generator, mean: float, deviation: float, fewest: int, most: int
) -> int:
    drawn = draws.gamma((mean / deviation) ** 2, deviation**2 / mean)
    return int(np.clip(round(drawn), fewest, most))
