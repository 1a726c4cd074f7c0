"""The log-probability of every answer of a closed set after every prompt.

Read off the batches that scoring uses: an answer of one token costs nothing beside the
right one. bridge.tasks.metrics.closed says what the choices are worth.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from truncated_weights.bridge import network as model
from truncated_weights.bridge import scoring
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.encoding import Encoded, EncodedBatch, Vocabulary
from truncated_weights.bridge.tokenizer import mask_padding


class Options(NamedTuple):
    """Log-probabilities and numbers of tokens of the options, and which option is right."""

    log_p: Float[np.ndarray, "examples options"]
    tokens: Int[np.ndarray, "examples options"]
    right: Int[np.ndarray, " examples"]


def option_scores(
    params: Any,
    config: Config,
    encoded: Encoded,
    closed: Sequence[str],
    *,
    dtype: str | None = None,
    memory: int = scoring.DEFAULT_MEMORY,
) -> Options:
    """The Options of every example, in the order of `closed`.

    Raises ValueError where an example's answer and distractors are not those of `closed`, or
    where some of its distractors were left out when it was encoded; NotFiniteError.
    """
    closed = tuple(closed)
    for example, places in zip(encoded.examples, encoded.places, strict=True):
        if {example.answer, *example.distractors} != set(closed):
            raise ValueError(f"the answers of {example.prompt[-30:]!r} are not {closed}")
        if len(places) != len(closed) - 1:
            raise ValueError(f"only {len(places)} distractors of {len(closed) - 1} were encoded")

    def score(batch: EncodedBatch) -> dict[str, Array]:
        x = scoring.last_stream(params, config, batch, dtype)
        outer = scoring.outer_params(params)
        found = _continuations(outer, config, x, batch, encoded.vocabulary)
        # Batches of short examples come without the rows that only others have.
        missing = (0, encoded.batch.at.shape[1] - batch.at.shape[1])
        padded = {name: jnp.pad(found[name], ((0, 0), missing)) for name in ("rows", "counts")}
        return found | padded

    found = scoring.in_batches(score, params, config, encoded, dtype, memory)
    order = np.array(
        [
            _columns(e.answer, e.distractors, p, closed, found["rivals"].shape[1])
            for e, p in zip(encoded.examples, encoded.places, strict=True)
        ]
    )
    log_p = np.concatenate([found["rivals"], found["rows"]], axis=1)
    tokens = np.concatenate([np.ones_like(found["rivals"], np.int64), found["counts"]], axis=1)
    right = np.array([closed.index(example.answer) for example in encoded.examples])
    return Options(
        np.take_along_axis(log_p, order, axis=1), np.take_along_axis(tokens, order, axis=1), right
    )


def _columns(
    answer: str,
    distractors: tuple[str, ...],
    places: tuple[int, ...],
    closed: tuple[str, ...],
    rivals: int,
) -> list[int]:
    """Where each option stands in the rivals followed by the rows, of which the answer's is 0."""
    where = {answer: rivals}
    for text, place in zip(distractors, places, strict=True):
        # 0 is a rival: rows of distractors count from 1.
        where[text] = place if place >= 0 else rivals - place
    return [where[text] for text in closed]


@functools.partial(jax.jit, static_argnames=("config", "vocabulary"))
def _continuations(
    outer: Any,
    config: Config,
    x: Float[Array, "rows answers d_model"],
    batch: EncodedBatch,
    vocabulary: Vocabulary,
) -> dict[str, Array]:
    """log p of the rivals and of the rows, and how many tokens these have."""
    logits = model.final_logits(outer, config, x).reshape(*batch.at.shape, -1)
    logits = mask_padding(logits, vocabulary.num_tokens, vocabulary.holes)
    log_all = jax.nn.log_softmax(logits, axis=-1)
    each = jnp.take_along_axis(log_all, batch.targets[..., None], axis=-1)[..., 0]
    rows = jnp.sum(jnp.where(batch.counted, each, 0.0), axis=-1)
    rivals = jnp.take_along_axis(log_all[:, 0, 0], jnp.maximum(batch.rivals, 0), axis=-1)
    rivals = jnp.where(batch.rivals >= 0, rivals, 0.0)
    return {"rows": rows, "rivals": rivals, "counts": jnp.sum(batch.counted, axis=-1)}
