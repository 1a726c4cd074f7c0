"""Prompts of a benchmark: random tokens, or facts as long and as alike as CounterFact's, as they
are or mixed with paraphrases as LASER asks them.
"""

import numpy as np

from bridge import encoding
from bridge.tasks import Example

# The 10,000 prompts of CounterFact that arXiv 2402.11655 uses have 9.0 +- 2.5 tokens of GPT-NeoX
# (28 at most), and of the places of all rows .91, .81 and .66 are beginnings of their own among
# 64, 512 and 2,000 prompts. What is drawn here has 8.8 +- 3.0 and .92, .85 and .80: it shares a
# little less, so what sharing saves is not overstated.
_TEMPLATES = 100
_NAMES, _EXPONENT = 1000, 1.2  # first tokens of subjects, and how unequal their frequencies are
_SECOND = 10  # second tokens to choose from
_SUBJECT = 12  # tokens of a subject at most
# CounterFact's paraphrases are a fact's words behind an unrelated sentence, "Shayna does this and
# Yossel goes still and dies. Danielle Darrieux, a native". Of 85 of them, drawn at random, the
# sentence has 11.3 +- 4.5 tokens of GPT-NeoX (2 to 22), the fact behind it 7.7 +- 2.2; what is
# drawn here has a fact of 8.8, so rows are a little longer, which does not favour the search.
_SENTENCE = (2, 22)  # tokens of that sentence, fewest and most
_SENTENCE_MEAN, _SENTENCE_DEVIATION = 11.3, 4.5
_FACT = 24  # tokens of a fact's prompt at most
# Tokens of a prompt at most.
LONGEST = {"facts": _FACT, "paraphrases": _FACT + _SENTENCE[1]}


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
    """LASER's rows of CounterFact: each fact, then twice a fact behind a sentence of its own.

    A paraphrase words its fact otherwise, so what stands behind the sentence shares nothing with
    the row before either.
    """
    found = facts(count, vocab_size, draws)
    for row, prompt in enumerate(found):
        if row % 3:
            number = round(draws.normal(_SENTENCE_MEAN, _SENTENCE_DEVIATION))
            sentence = draws.integers(1, vocab_size, int(np.clip(number, *_SENTENCE)))
            found[row] = [*sentence.tolist(), *prompt]
    return found
