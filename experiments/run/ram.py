"""Refuse in one line what cannot fit into memory, before anything is allocated.

An allocation that fails deep inside XLA aborts the process without a word that helps. The
estimates here are lower bounds: what they refuse is hopeless, what they let through may still be
too much.
"""

import jax

from truncated_weights.experiments.run.program import UserError
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.truncation.files.room import host, told

GIGABYTE = 2**30


def available() -> int:
    """Bytes a computation may use on the first device: the device's own, or the host's."""
    device = jax.local_devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    return host()


def require(needed: float, what: str, *, limit: int | None = None) -> None:
    """UserError if `needed` bytes are more than there are; `what` names the settings to lower."""
    limit = available() if limit is None else limit
    if not needed <= limit:
        raise UserError(
            f"this needs at least {told(needed)} of memory and there are {told(limit)}; "
            f"lower {what}"
        )


def recall_evaluation(model: NoisyRecall, sequences: int, *, at_once: int) -> float:
    """Bytes that measuring a noisy-recall model on so many sequences takes at the very least."""
    drawn = 16.0 * sequences * model.length
    return drawn + recall(
        num_tokens=model.num_tokens,
        length=model.length,
        d_model=model.d_model,
        d_hidden=model.d_hidden or 4 * model.d_model,
        layers=len(model.feed_forward),
        batch_size=1,
        num_seeds=1,
        eval_batch=min(sequences, at_once),
    )


def recall(
    *,
    num_tokens: int,
    length: int,
    d_model: int,
    d_hidden: int,
    layers: int,
    batch_size: int,
    num_seeds: int,
    eval_batch: int = 0,
) -> float:
    """Bytes that training a noisy-recall model takes at the very least, float32.

    The table of pairs; weights, gradients and momenta; the stream, the attention scores and the
    hidden units of one batch, which the backward pass needs.
    """
    vocab = num_tokens + 1
    weights = layers * (3 * d_model**2 + 2 * d_model * d_hidden) + 2 * vocab * d_model
    kept = layers * (4 * d_model + d_hidden + length)
    batch = num_seeds * batch_size * length * kept
    measured = num_seeds * eval_batch * length * (d_model + length)
    return 4.0 * (vocab**2 + 3 * num_seeds * weights + max(batch, measured))
