"""How a model answers: probabilities, ranks and margins, with logits only where needed.

Of an example with answer tokens a_1 ... a_n after a context c, with V the tokens that exist:

    loss              -sum_j log p(a_j | c, a_<j), in nats; the answer's log-probability is
                      minus this
    loss_per_token    loss / n
    accuracy          1 if every a_j is the most probable token of V at its place
    rank              of a_1 among V, from 1; of equal logits the lower id comes first
    p_answer          exp(-loss)
    p_the             p(" the" | c)
    margin_the        log p(a_1 | c) - log p(" the" | c), a difference of logits

and, if every example has distractors d,

    logit_difference  log p(answer | c) - max_d log p(d | c): of single tokens, the
                      difference of logits (in indirect objects, receiver - giver)
    choice            1 if the answer has the largest log-probability per token
    choice_summed     1 if it has the largest log-probability, as LASER chooses: of answers
                      of several lengths this favours the short

Everything is float32 from the logits on, whatever the dtype of the activations. Where logits
are not finite (NaN weights, a float16 that overflows) all figures of the example are NaN, since
nothing compares with NaN: evaluate and top_tokens then raise NotFiniteError.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.encoding import (
    Encoded,
    EncodedBatch,
    Vocabulary,
    bucket_length,
    check,
    flat,
    take,
)
from truncated_weights.bridge.network import outer_params
from truncated_weights.bridge.tokenizer import mask_padding

DEFAULT_MEMORY = 2**30
# glibc gives a larger block back to the system at once, and paging it in again takes longer
# than sharing saves.
_TOGETHER = 2**25
DTYPES = ("float32", "bfloat16")


@functools.partial(jax.jit, static_argnames="vocabulary")
def scores_of_logits(
    logits: Float[Array, "examples rows answers vocab"], batch: EncodedBatch, vocabulary: Vocabulary
) -> dict[str, Float[Array, "examples 1"]]:
    """Every figure of this module, from the logits at batch.at; NaN where one is not finite."""
    ids = jnp.arange(logits.shape[-1])[None, None]
    logits = mask_padding(logits, vocabulary.num_tokens, vocabulary.holes)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, batch.targets[..., None], axis=-1)
    log_p = jnp.where(batch.counted, chosen[..., 0] - normaliser, 0.0)
    totals, counts = jnp.sum(log_p, axis=-1), jnp.sum(batch.counted, axis=-1)

    # A count of what is above is one pass over the vocabulary; argmax and sort are several.
    first_rows, chosen = logits[:, 0], jax.lax.stop_gradient(chosen[:, 0])
    before = (first_rows == chosen) & (ids < batch.targets[:, 0, :, None])
    ranks = 1 + jnp.sum((first_rows > chosen) | before, axis=-1)
    right = jnp.all((ranks == 1) | ~batch.counted[:, 0], axis=-1)

    # Of a few tokens only: all of them less the normaliser would be one more pass.
    first, whole = logits[:, 0, 0], normaliser[:, 0, 0]
    log_the = first[:, vocabulary.noise] - whole
    scores = {
        "loss": -totals[:, 0],
        "loss_per_token": -totals[:, 0] / counts[:, 0],
        "accuracy": right.astype(jnp.float32),
        "rank": ranks[:, 0].astype(jnp.float32),
        "p_answer": jnp.exp(totals[:, 0]),
        "p_the": jnp.exp(log_the),
        "margin_the": log_p[:, 0, 0] - log_the,
    }
    if vocabulary.rivals:
        singles = jnp.take_along_axis(first, jnp.maximum(batch.rivals, 0), axis=-1)
        singles = singles - whole[:, None]
        singles = jnp.where(batch.rivals >= 0, singles, -jnp.inf)
        longer = jnp.where(counts[:, 1:] > 0, totals[:, 1:], -jnp.inf)
        per_token = longer / jnp.maximum(counts[:, 1:], 1)
        best = jnp.max(jnp.concatenate([singles, longer], axis=1), axis=1)
        best_per_token = jnp.max(jnp.concatenate([singles, per_token], axis=1), axis=1)
        scores["p_distractor"] = jnp.exp(best)
        scores["logit_difference"] = totals[:, 0] - best
        chooses = totals[:, 0] / counts[:, 0] > best_per_token
        scores["choice"] = chooses.astype(jnp.float32)
        scores["choice_summed"] = (totals[:, 0] > best).astype(jnp.float32)
    # NaN or infinity anywhere in a row of logits is in its normaliser.
    finite = jnp.all(jnp.isfinite(normaliser) | ~batch.counted, axis=(1, 2))
    for value in scores.values():
        finite &= jnp.isfinite(value)
    return {name: jnp.where(finite, value, jnp.nan)[:, None] for name, value in scores.items()}


def names(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The figures that examples of this vocabulary have."""
    common = ("loss", "loss_per_token", "accuracy", "rank", "p_answer", "p_the", "margin_the")
    rivals = ("p_distractor", "logit_difference", "choice", "choice_summed")
    return (*common, *rivals) if vocabulary.rivals else common


def finish(
    outer: Any,
    config: Config,
    x: Float[Array, "rows answers d_model"],
    batch: EncodedBatch,
    vocabulary: Vocabulary,
) -> dict[str, Float[Array, "examples 1"]]:
    """Scores from the residual stream after the last layer, at batch.at of every row.

    outer holds the parameters outside the layers. Logits and scores are compiled apart: in
    one program the CPU backend computes the product half as fast.
    """
    logits = model.final_logits(outer, config, x)
    return scores_of_logits(logits.reshape(*batch.at.shape, -1), batch, vocabulary)


def finish_each(
    outer: Any,
    config: Config,
    streams: Iterable[Float[Array, "rows answers d_model"]],
    batch: EncodedBatch,
    vocabulary: Vocabulary,
) -> list[dict[str, Float[Array, "together examples 1"]]]:
    """`finish` of one stream after another on the same examples, some of them together.

    A product with the unembedding reads all of it, which for a batch of few answers takes longer
    than multiplying. As many streams share one as have logits that fit _TOGETHER bytes.
    """
    left = list(streams)
    most = max(1, _TOGETHER // (4 * batch.at.size * config.vocab_size))
    found = []
    while left:
        now, left = left[:most], left[most:]
        joined = EncodedBatch(*(np.concatenate([leaf] * len(now)) for leaf in batch))
        scores = finish(outer, config, jnp.concatenate(now), joined, vocabulary)
        found.append({name: value.reshape(len(now), -1, 1) for name, value in scores.items()})
    return found


def last_stream(
    params: Any, config: Config, batch: EncodedBatch, dtype: str | None = None
) -> Float[Array, "rows answers d_model"]:
    """The residual stream after the last layer where logits are needed.

    Runs layer by layer: one compiled layer serves the whole network.
    """
    tokens, mask = (jnp.asarray(flat(leaf)) for leaf in (batch.tokens, batch.mask))
    context = model.context_of(mask)
    x = model.embed(outer_params(params), config, tokens, context.positions, dtype)
    return model.run_layers(params, config, x, context, at=jnp.asarray(flat(batch.at)))


def batch_scores(
    params: Any,
    config: Config,
    batch: EncodedBatch,
    vocabulary: Vocabulary,
    dtype: str | None = None,
) -> dict[str, Float[Array, "examples 1"]]:
    """The figures of one batch; differentiable with respect to params through loss."""
    x = last_stream(params, config, batch, dtype)
    return finish(outer_params(params), config, x, batch, vocabulary)


@functools.partial(jax.jit, static_argnames=("config", "vocabulary"))
def first_probabilities(
    outer: Any,
    config: Config,
    x: Float[Array, "rows answers d_model"],
    batch: EncodedBatch,
    vocabulary: Vocabulary,
) -> Float[Array, "examples tokens"]:
    """p(token | prompt) of every token that exists, at the first answer position."""
    first = x.reshape(*batch.at.shape, -1)[:, 0, :1]
    logits = model.final_logits(outer, config, first)[:, 0, : vocabulary.num_tokens]
    return jax.nn.softmax(mask_padding(logits, vocabulary.num_tokens, vocabulary.holes), axis=-1)


def bytes_per_example(config: Config, batch: EncodedBatch, dtype: str | None = None) -> int:
    """About what one example needs while a layer or the unembedding runs."""
    size = 2 if dtype == "bfloat16" else 4
    rows, length, answers = batch.tokens.shape[1], batch.tokens.shape[2], batch.at.shape[2]
    width = 8 * config.d_model + 3 * config.d_ff
    layer = rows * length * (size * width + 3 * 4 * config.num_heads * length)
    return layer + rows * answers * 3 * 4 * config.vocab_size


def batch_size(
    config: Config, batch: EncodedBatch, *, memory: int = DEFAULT_MEMORY, dtype: str | None = None
) -> int:
    """How many examples of this shape fit in `memory` bytes at once, at least one."""
    return max(1, min(len(batch.number), memory // bytes_per_example(config, batch, dtype)))


def buckets(batch: EncodedBatch, *, most: int = 4) -> list[Int[np.ndarray, " n"]]:
    """Examples to be run in one shape, by length: at most `most` shapes to compile.

    A bucket of too few examples joins the next longer one.
    """
    lengths = batch.mask.sum(axis=-1).max(axis=-1)
    order = np.argsort(lengths, kind="stable")
    found: list[np.ndarray] = []
    start = 0
    for end in range(1, len(order) + 1):
        at_edge = end == len(order) or (
            bucket_length(int(lengths[order[end]])) > bucket_length(int(lengths[order[end - 1]]))
        )
        if at_edge and (end == len(order) or (end - start) * most >= len(order)):
            found.append(order[start:end])
            start = end
    return found


def evaluate(
    params: Any,
    config: Config,
    encoded: Encoded,
    *,
    dtype: str | None = None,
    memory: int = DEFAULT_MEMORY,
) -> dict[str, Float[np.ndarray, " examples"]]:
    """The figures of every example, in order.

    Examples run in buckets of few shapes, in batches that need about `memory` bytes. dtype
    is that of the activations (default: that of the parameters). Raises NotFiniteError.
    """

    def score(batch: EncodedBatch) -> dict[str, Array]:
        return batch_scores(params, config, batch, encoded.vocabulary, dtype)

    found = in_batches(score, params, config, encoded, dtype, memory)
    return {name: values[:, 0] for name, values in found.items()}


def top_tokens(
    params: Any,
    config: Config,
    encoded: Encoded,
    count: int = 5,
    *,
    dtype: str | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Int[np.ndarray, "examples count"], Float[np.ndarray, "examples count"]]:
    """Ids and probabilities of the most probable tokens after each prompt, best first.

    Raises NotFiniteError.
    """

    def best(batch: EncodedBatch) -> dict[str, Array]:
        x = last_stream(params, config, batch, dtype)
        outer = outer_params(params)
        law = first_probabilities(outer, config, x, batch, encoded.vocabulary)
        values, ids = jax.lax.top_k(law, count)
        return {"ids": ids, "values": values}

    found = in_batches(best, params, config, encoded, dtype, memory)
    return found["ids"], found["values"]


def in_batches(
    function: Callable[[EncodedBatch], dict[str, Array]],
    params: Any,
    config: Config,
    encoded: Encoded,
    dtype: str | None,
    memory: int,
) -> dict[str, np.ndarray]:
    """function's arrays for every example, in order, from batches of few shapes.

    Raises ValueError for examples that the model cannot read, or of tokens that it has not, and
    NotFiniteError where an array is not finite.
    """
    check(config, encoded.batch, encoded.vocabulary)
    results: dict[str, np.ndarray] = {}
    pending: tuple[np.ndarray, dict[str, Array]] | None = None
    for members in buckets(encoded.batch):
        trimmed = take(encoded.batch, members)
        size = batch_size(config, trimmed, memory=memory, dtype=dtype)
        for start in range(0, len(members), size):
            indices = members[start : start + size]
            # One shape per bucket: the last batch is filled up from the bucket's beginning.
            rows = np.arange(start, start + size) % len(members)
            found = function(EncodedBatch(*(leaf[rows] for leaf in trimmed)))
            # Fetched one batch late, so that the device never waits.
            if pending is not None:
                _fetch(results, len(encoded), *pending)
            pending = indices, found
    assert pending is not None
    _fetch(results, len(encoded), *pending)
    whole = [np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in results.values()]
    if len(bad := np.flatnonzero(~np.all(whole, axis=0))):
        first = EncodedBatch(*(leaf[bad[:1]] for leaf in encoded.batch))
        tokens, mask = flat(first.tokens), flat(first.mask)
        what = f"figures of {len(bad)} of {len(encoded)} examples"
        raise model.not_finite(params, config, tokens, mask, what=what, dtype=dtype)
    return results


def _fetch(
    results: dict[str, np.ndarray], count: int, indices: np.ndarray, found: dict[str, Array]
) -> None:
    """Write what was found of the examples at `indices` into arrays for all `count` of them."""
    for name, values in jax.device_get(found).items():
        whole = results.setdefault(name, np.empty((count, *values.shape[1:]), values.dtype))
        whole[indices] = values[: len(indices)]
