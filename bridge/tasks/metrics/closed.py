"""Choices among a closed set of answers, and whether they still depend on the question.

A cut that makes a model say " false" to everything scores what " false" scores, which in
several published tables is the "gain". So beside every accuracy stand the best constant
answer, the share of the commonest choice, and

    kappa = (accuracy - chance) / (1 - chance),  chance = sum_k p(chosen = k) p(right = k),

Cohen's kappa: zero where the choices have nothing to do with the questions, however well
their proportions fit.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from truncated_weights.truncation.finite import NotFiniteError

CONSTANT_SHARE = 0.95
"""From this share of one answer on, choices are called constant."""

_TOGETHER = 100


def choose(
    log_p: Float[np.ndarray, "examples options"],
    tokens: Int[np.ndarray, "examples options"] | None = None,
) -> Int[np.ndarray, " examples"]:
    """The option of largest summed log-probability; per token where their numbers are given.

    Of equal options the first counts, as in numpy.argmax. Raises NotFiniteError for NaN.
    """
    if np.isnan(log_p).any():
        raise NotFiniteError("log-probabilities of the answers are not finite: nothing is chosen")
    return np.argmax(log_p if tokens is None else log_p / tokens, axis=1)


@dataclasses.dataclass(frozen=True)
class Report:
    """What choices are worth; shares between 0 and 1, options by their number.

    accuracy        share of right choices
    low, high       its 95 % interval, from resampling items
    best_constant   the option that is right most often, and in what share
    commonest       the option chosen most often, and in what share
    kappa           Cohen's, with its interval; nan where chance is 1
    macro_f1        mean F1 over the options that are right somewhere
    """

    accuracy: float
    low: float
    high: float
    best_constant: tuple[int, float]
    commonest: tuple[int, float]
    kappa: float
    kappa_low: float
    kappa_high: float
    macro_f1: float

    @property
    def constant(self) -> bool:
        """Whether nearly all choices are one option."""
        return self.commonest[1] >= CONSTANT_SHARE

    @property
    def beats_constant(self) -> bool:
        """Whether the whole interval of accuracy is above the best constant answer."""
        return self.low > self.best_constant[1]

    def verdict(self, options: tuple[str, ...]) -> str:
        """One sentence for a table: constant, no better than one, or better."""
        option, share = self.commonest
        best, right = self.best_constant
        if self.constant:
            return f"says {options[option]!r} to {share:.1%}: a constant, not an answer"
        if self.beats_constant:
            return f"better than {options[best]!r} to everything ({right:.1%})"
        return f"not shown to be better than {options[best]!r} to everything ({right:.1%})"


def report(
    chosen: Int[np.ndarray, " examples"],
    right: Int[np.ndarray, " examples"],
    num_options: int,
    *,
    items: Int[np.ndarray, " examples"] | None = None,
    seed: int = 0,
    samples: int = 2000,
) -> Report:
    """The Report of choices against right answers, both as numbers of options.

    items numbers what is resampled together (the options of one question); by default every
    example is its own. Raises ValueError where there are no examples, or a number is not
    below num_options.
    """
    if not len(chosen):
        raise ValueError("no examples to report on")
    if max(chosen.max(), right.max()) >= num_options:
        raise ValueError(f"an option beyond the {num_options} there are")
    tables = _tables(chosen, right, num_options, items)
    resampled = _resampled(tables, np.random.default_rng(seed), samples)
    whole = tables.sum(axis=0)
    accuracy = _accuracy(resampled)
    kappa = _kappa(resampled)
    kappa = kappa[~np.isnan(kappa)]
    kappa_low, kappa_high = np.quantile(kappa, [0.025, 0.975]) if len(kappa) else (np.nan, np.nan)
    low, high = np.quantile(accuracy, [0.025, 0.975])
    said, true = whole.sum(axis=1), whole.sum(axis=0)
    return Report(
        accuracy=float(_accuracy(whole)),
        low=float(low),
        high=float(high),
        best_constant=(int(np.argmax(true)), float(np.max(true) / whole.sum())),
        commonest=(int(np.argmax(said)), float(np.max(said) / whole.sum())),
        kappa=float(_kappa(whole)),
        kappa_low=float(kappa_low),
        kappa_high=float(kappa_high),
        macro_f1=macro_f1(chosen, right, num_options),
    )


def macro_f1(
    chosen: Int[np.ndarray, " examples"], right: Int[np.ndarray, " examples"], num_options: int
) -> float:
    """Mean over the options that are right somewhere of F1 = 2 TP / (chosen + right)."""
    options = np.arange(num_options)[:, None]
    said, true = chosen == options, right == options
    hits = np.sum(said & true, axis=1)
    both = np.sum(said, axis=1) + np.sum(true, axis=1)
    asked = np.any(true, axis=1)
    return float(np.mean(2 * hits[asked] / both[asked]))


def _tables(
    chosen: np.ndarray, right: np.ndarray, num_options: int, items: np.ndarray | None
) -> Float[np.ndarray, "items options options"]:
    """How often option k was chosen where l was right, item by item."""
    numbers = np.arange(len(chosen)) if items is None else np.unique(items, return_inverse=True)[1]
    found = np.zeros((int(numbers.max()) + 1, num_options, num_options))
    np.add.at(found, (numbers, chosen, right), 1)
    return found


def _resampled(
    tables: np.ndarray, rng: np.random.Generator, samples: int
) -> Float[np.ndarray, "samples options options"]:
    """Tables of as many items as there are, drawn with replacement."""
    law = np.full(len(tables), 1 / len(tables))
    # In parts: counts of 2,000 resamples of 40,000 items would fill half a gigabyte.
    parts = [min(_TOGETHER, samples - start) for start in range(0, samples, _TOGETHER)]
    flat = tables.reshape(len(tables), -1)
    found = [rng.multinomial(len(tables), law, size=part) @ flat for part in parts]
    return np.concatenate(found).reshape(samples, *tables.shape[1:])


def _accuracy(tables: np.ndarray) -> np.ndarray:
    return np.asarray(np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1)))


def _kappa(tables: np.ndarray) -> np.ndarray:
    laws = tables / tables.sum(axis=(-2, -1), keepdims=True)
    chance = np.sum(laws.sum(axis=-1) * laws.sum(axis=-2), axis=-1)
    gain = np.trace(laws, axis1=-2, axis2=-1) - chance
    # One option chosen and right everywhere: nothing is left to agree on.
    return np.where(chance < 1 - 1e-12, gain / np.maximum(1 - chance, 1e-12), np.nan)
