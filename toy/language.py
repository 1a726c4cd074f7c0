"""Unigram and bigram laws of the ordinary tokens: Zipf, uniform, or counted from a text."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from truncated_weights.truncation.files import regular, room, strict

# As --num_tokens has it: the tables have this many rows and columns.
MOST_SYMBOLS = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Language:
    """A first token drawn from `unigram`, then each next one from its row of `bigram`.

    symbols: what each token stands for, where the language was counted from text.
    """

    unigram: Float[np.ndarray, " tokens"]
    bigram: Float[np.ndarray, "tokens tokens"]
    symbols: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        size = len(self.unigram)
        if size < 2:
            raise ValueError(f"a language needs at least two symbols, this one has {size}")
        if self.bigram.shape != (size, size):
            raise ValueError(f"bigram is {self.bigram.shape}, unigram has {size} tokens")
        for name, law in (("unigram", self.unigram[None]), ("bigram", self.bigram)):
            if np.any(law < 0) or not np.allclose(law.sum(axis=1), 1, atol=1e-9):
                raise ValueError(f"{name} has a row that is not a probability law")

    @property
    def num_tokens(self) -> int:
        """N, the number of ordinary tokens."""
        return len(self.unigram)

    def most_frequent(self, count: int) -> tuple[int, ...]:
        """The `count` most frequent tokens, the lower index first among equals."""
        return tuple(int(i) for i in np.argsort(-self.unigram, kind="stable")[:count])

    def rarest(self, count: int) -> tuple[int, ...]:
        """The `count` rarest tokens, the higher index first among equals."""
        return tuple(int(i) for i in np.argsort(-self.unigram, kind="stable")[::-1][:count])


def uniform(num_tokens: int) -> Language:
    """Every token independent and uniform: the setting of most of the theory."""
    _require_size(num_tokens)
    law = np.full(num_tokens, 1 / num_tokens)
    return Language(law, np.tile(law, (num_tokens, 1)))


def zipf(
    num_tokens: int, *, exponent: float = 1.0, concentration: float = 8.0, seed: int = 0
) -> Language:
    """Unigram law proportional to rank^-exponent; rows Dirichlet(concentration * unigram).

    A small concentration gives rows far from the unigram law; infinity would give it back.
    """
    _require_size(num_tokens)
    if not concentration > 0:
        raise ValueError(f"concentration is {concentration}, it must be positive")
    unigram = np.arange(1, num_tokens + 1) ** -float(exponent)
    unigram /= unigram.sum()
    # A Dirichlet draw is a normalised gamma draw; tiny shapes may underflow to an empty row,
    # which a floor far below any sampling resolution prevents.
    gammas = np.random.default_rng(seed).gamma(
        concentration * unigram, size=(num_tokens, num_tokens)
    )
    gammas = np.maximum(gammas, 1e-30)
    return Language(unigram, gammas / gammas.sum(axis=1, keepdims=True))


def counted(text: str) -> Language:
    """Characters and pairs of characters as counted in a text; tokens in character order.

    A character that only ever ends the text is followed by the unigram law. ValueError for a text
    of fewer than two characters, or of more than MOST_SYMBOLS different ones.
    """
    # The letters as numbers, and what sorting them takes.
    room.require(32 * len(text), f"counting the {len(text):,} letters")
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    symbols, tokens = np.unique(codes, return_inverse=True)
    if len(symbols) < 2:
        raise ValueError(f"the text has {len(symbols)} different symbols, two are needed")
    if len(symbols) > MOST_SYMBOLS:
        tables = room.told(3 * 8 * len(symbols) ** 2)
        raise ValueError(
            f"the text has {len(symbols):,} different symbols, whose tables of pairs would take "
            f"{tables}; at most {MOST_SYMBOLS:,} are taken"
        )
    unigram = np.bincount(tokens) / len(tokens)
    pairs = np.zeros((len(symbols), len(symbols)))
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    totals = pairs.sum(axis=1, keepdims=True)
    bigram = np.where(totals > 0, pairs / np.maximum(totals, 1), unigram)
    return Language(unigram, bigram, tuple(map(chr, symbols)))


# Texts whose counts come with the package, so that the published task needs no file.
NAMED = ("shakespeare",)


def file_of(text: str) -> str:
    """The file that a setting names; empty where it is a text whose counts come with us."""
    return "" if text in NAMED else text


def named(name: str) -> Language:
    """One of NAMED: Tiny Shakespeare, 65 symbols, from how often each is followed by each."""
    found = strict.read(Path(__file__).parent / "counts" / f"{name}.json")
    pairs = np.array(found["pairs"], np.float64)
    totals = pairs.sum(axis=1)
    # Every character but the last is followed by one.
    unigram = totals + np.array([symbol == found["last"] for symbol in found["symbols"]])
    return Language(unigram / unigram.sum(), pairs / totals[:, None], tuple(found["symbols"]))


def read(path: str | Path) -> Language:
    """The language of a name in NAMED, or counted from a UTF-8 text file.

    ValueError where the file cannot be one.
    """
    if path in NAMED:
        return named(str(path))
    try:
        return counted(regular.text(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _require_size(num_tokens: int) -> None:
    if num_tokens < 2:
        raise ValueError(f"a language needs at least two symbols, num_tokens is {num_tokens}")
