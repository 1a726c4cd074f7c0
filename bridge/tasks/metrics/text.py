"""Marking of generated text, and what an answer's log-probability says of it.

Texts are compared without space around them, in lower case and in one Unicode form (NFKC: an
accent set apart, a ligature or a no-break space makes no other text). "Generated" is what the model
adds to the prompt, never the prompt itself, save in `contains_with_prompt`.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

_WORD = re.compile(r"\w+|[^\w\s]")


def contains(generated: str, answer: str) -> bool:
    """Whether the answer stands anywhere in the generated text."""
    return _bare(answer) in _bare(generated)


def contains_with_prompt(prompt: str, generated: str, answer: str) -> bool:
    """As LASER marks: prompt and generated text decoded together.

    An answer that stands in the question is then right whatever is said (9.9 % of the
    HotpotQA validation questions), so this is a published figure's twin and no measure.
    """
    return _bare(answer) in _bare(prompt + generated)


def answer_in_prompt(prompt: str, answer: str) -> bool:
    """Whether contains_with_prompt is true whatever is generated."""
    return contains_with_prompt(prompt, "", answer)


def token_f1(generated: str, answer: str) -> float:
    """2 P R / (P + R) of the sets of words, 0 where none is shared.

    Words are runs of letters and digits, every other sign one of its own: nearly what NLTK
    gives LASER, whose figure moreover divides by max(1, P + R).
    """
    said, right = (set(_WORD.findall(_bare(text))) for text in (generated, answer))
    shared = len(said & right)
    return 2 * shared / (len(said) + len(right)) if shared else 0.0


def top_k(ranks: Num[np.ndarray, " examples"], k: int) -> float:
    """Share of examples whose rank, from 1, is at most k."""
    return float(np.mean(ranks <= k))


def top_k_decoded(tokens: Sequence[str], answer: str, k: int) -> bool:
    """As LASER marks: the answer is one of the k best tokens, decoded, bare, lower case."""
    return _bare(answer) in [_bare(token) for token in tokens[:k]]


def log_loss(log_p: Float[np.ndarray, " examples"], tokens: Int[np.ndarray, " examples"]) -> float:
    """Mean over examples of minus the log-probability per answer token, in nats."""
    return float(np.mean(-log_p / tokens, dtype=np.float64))


def answer_perplexity(
    log_p: Float[np.ndarray, " examples"], tokens: Int[np.ndarray, " examples"]
) -> float:
    """exp(-sum of all log-probabilities / number of all answer tokens)."""
    total = np.sum(log_p, dtype=np.float64) / np.sum(tokens)
    return float(np.exp(-total))


def _bare(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().lower()
