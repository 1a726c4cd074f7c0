"""What a model says at the queried positions, beside what Bayes would say.

At a query the true law is p_answer on the answer, p_the on " the", nothing elsewhere. Of a
model are measured, per prompt, its probabilities of the answer, of " the", of the first
distractor (in a story: the giver) and of everything but the first two; whether the answer is
its most probable token; and KL(truth || model) in nats, the excess over the least
cross-entropy possible, which is zero only for the Bayes-optimal law.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int
from tokenizers import Tokenizer

from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config
from truncated_weights.mini_pythia.language.documents import NOISE
from truncated_weights.training import records
from truncated_weights.truncation.finite import hits

FIGURES = ("p_the", "p_answer", "p_distractor", "p_other", "accuracy", "kl")


class Batch(NamedTuple):
    """Tokenized prompts, padded on the right."""

    tokens: Int[Array, "prompts length"]
    mask: Bool[Array, "prompts length"]
    last: Int[Array, "prompts 1"]
    answer: Int[Array, " prompts"]
    distractor: Int[Array, " prompts"]
    p_answer: Float[Array, " prompts"]
    p_the: Float[Array, " prompts"]


class PromptBatch(NamedTuple):
    """The prompts of several tasks in one batch, and where each task begins and ends in it."""

    batch: Batch
    slices: Mapping[str, slice]
    the: int


def tokenize_prompts(
    sets: Mapping[str, Sequence[Mapping[str, Any]]], tokenizer: Tokenizer
) -> PromptBatch:
    """Tokenize the prompts of every task into one padded batch.

    Raises ValueError for an answer or distractor that is not a single token.
    """
    prompts = [prompt for task in sets for prompt in sets[task]]
    encoded = [encoding.ids for encoding in tokenizer.encode_batch([p["prompt"] for p in prompts])]
    tokens = np.zeros((len(prompts), max(map(len, encoded))), np.int32)
    for row, ids in zip(tokens, encoded, strict=True):
        row[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in encoded], np.int32)
    edges = np.cumsum([0, *(len(sets[task]) for task in sets)])
    return PromptBatch(
        batch=Batch(
            tokens=jnp.asarray(tokens),
            mask=jnp.asarray(np.arange(tokens.shape[1]) < lengths[:, None]),
            last=jnp.asarray(lengths[:, None] - 1),
            answer=_single_tokens([p["answer"] for p in prompts], tokenizer),
            distractor=_single_tokens([p["distractors"][0] for p in prompts], tokenizer),
            p_answer=jnp.array([p["p_answer"] for p in prompts], jnp.float32),
            p_the=jnp.array([p["p_the"] for p in prompts], jnp.float32),
        ),
        slices={task: slice(int(edges[i]), int(edges[i + 1])) for i, task in enumerate(sets)},
        the=int(_single_tokens([NOISE], tokenizer)[0]),
    )


def _single_tokens(words: Sequence[str], tokenizer: Tokenizer) -> Int[Array, " words"]:
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(words))]
    for word, ids in zip(words, encoded, strict=True):
        if len(ids) != 1:
            raise ValueError(f"answer {word!r} is {len(ids)} tokens; expected one")
    return jnp.array([ids[0] for ids in encoded], jnp.int32)


@functools.partial(jax.jit, static_argnames=("config", "the"))
def measure(
    params: Any, config: Config, batch: Batch, the: int
) -> dict[str, Float[Array, " prompts"]]:
    """Each of FIGURES for every prompt."""
    logits = model.forward(params, config, batch.tokens, batch.mask, at=batch.last)[:, 0]
    log_p = jax.nn.log_softmax(logits)
    rows = jnp.arange(log_p.shape[0])
    log_answer, log_the = log_p[rows, batch.answer], log_p[:, the]
    p_answer, p_the = jnp.exp(log_answer), jnp.exp(log_the)
    entropy_terms = jax.scipy.special.xlogy(batch.p_answer, batch.p_answer)
    entropy_terms += jax.scipy.special.xlogy(batch.p_the, batch.p_the)
    return {
        "p_the": p_the,
        "p_answer": p_answer,
        "p_distractor": jnp.exp(log_p[rows, batch.distractor]),
        "p_other": 1.0 - p_the - p_answer,
        "accuracy": hits(log_p, batch.answer),
        "kl": entropy_terms - batch.p_answer * log_answer - batch.p_the * log_the,
    }


def by_task(
    figures: Mapping[str, Float[Array, " prompts"]], slices: Mapping[str, slice]
) -> xr.Dataset:
    """The figures as a block, fetched and divided: FIGURE [task, prompt].

    Where a task has fewer prompts than another, NaN fills up its row.
    """
    return records.labelled(
        {
            records.name(figure, "prompt", task=task): values[where]
            for figure, values in jax.device_get(dict(figures)).items()
            for task, where in slices.items()
        },
        {},
    )


def truth(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> xr.Dataset:
    """What Bayes says, p_the and p_answer, as `by_task` has what a model says."""
    return records.labelled(
        {
            records.name(figure, "prompt", task=task): [prompt[figure] for prompt in prompts]
            for figure in ("p_the", "p_answer")
            for task, prompts in sets.items()
        },
        {},
    )
