"""What a model can be asked: ids that it has a row for, and no more tokens than positions.

Under jit an id beyond the embedding reads its last row, and a position beyond the table or
beyond what was ever trained gives figures that look like any others. So every function that
takes tokens asks here first, on the host.
"""

import numpy as np
from jaxtyping import Bool, Int

from truncated_weights.bridge.config import Config


def check_tokens(
    config: Config,
    tokens: Int[np.ndarray, "*batch length"],
    mask: Bool[np.ndarray, "*batch length"] | None = None,
    *,
    new: int = 0,
) -> None:
    """ValueError for ids outside the vocabulary, or texts longer than the model's positions.

    mask is true at real tokens (default: all); padding takes no position. new tokens are to
    follow every text.
    """
    check_ids(config.vocab_size, tokens)
    lengths = np.asarray(tokens.shape[-1]) if mask is None else mask.sum(axis=-1)
    check_length(config, int(lengths.max(initial=0)), new=new)


def check_length(config: Config, longest: int, *, new: int = 0) -> None:
    """ValueError where a text of so many tokens, and new ones behind it, finds no positions."""
    if longest + new > config.max_positions:
        excess = (
            f"{longest} tokens and {new} new ones exceed" if new else f"length {longest} exceeds"
        )
        raise ValueError(f"{excess} the {config.max_positions} positions")


def check_ids(size: int, ids: Int[np.ndarray, "..."], what: str = "tokens") -> None:
    """ValueError for ids outside [0, size)."""
    if ids.size and not (ids.min() >= 0 and ids.max() < size):
        found = f"{what} run from {ids.min()} to {ids.max()}"
        raise ValueError(f"{found}; expected 0 to {size - 1}")
