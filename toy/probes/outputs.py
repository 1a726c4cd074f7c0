"""What a recall model predicts at scored positions, and where its attention looks.

Everything is a pure function of weights and batches. Probabilities of several noise tokens
are added up. Means are over the scored positions of a batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toy.layer import Weights, unembedding
from toy.network import Trace
from toy.recall import Batch, Task, mean
from toy.transformer_config import TransformerConfig

# Means over all positions of a sequence, not over the scored ones.
EVEN = ("attention_previous", "attention_previous_argmax")


def predictions(
    task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch
) -> dict[str, Array]:
    """Per scored position: p_correct, p_noise, accuracy (0 or 1) and loss in nats."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    return {
        "p_correct": _pick(p, batch.correct),
        "p_noise": jnp.sum(p[..., jnp.asarray(task.noise)], axis=-1),
        "accuracy": (jnp.argmax(logits, axis=-1) == batch.correct).astype(jnp.float32),
        "loss": -_pick(log_p, batch.labels),
    }


def means(
    task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch
) -> dict[str, Float[Array, ""]]:
    """Means of `predictions` over the batch."""
    return {k: mean(v, batch) for k, v in predictions(task, logits, batch).items()}


def attention(task: Task, trace: Trace, batch: Batch) -> dict[str, Float[Array, ""]]:
    """Attention mass of the last layer on correct and on noise tokens, first layer's on t - 1.

    A correct (noise) token is one that follows an earlier occurrence of the query's own
    trigger and is its ybar (a noise token). attention_argmax: how often the last layer looks most
    at a token that follows the query's trigger; attention_previous_argmax: the first at t - 1.
    """
    last = trace.patterns[-1]
    trigger = jnp.take_along_axis(batch.tokens, batch.positions, axis=1)
    previous = jnp.pad(batch.tokens[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    after = previous[:, None, :] == trigger[:, :, None]
    is_correct = batch.tokens[:, None, :] == batch.correct[:, :, None]
    is_noise = jnp.isin(batch.tokens, jnp.asarray(task.noise))[:, None, :]
    top = jnp.argmax(last, axis=-1)[:, :, None]
    masses = {
        "attention_correct": mean(jnp.sum(last * (after & is_correct), axis=-1), batch),
        "attention_noise": mean(jnp.sum(last * (after & is_noise), axis=-1), batch),
        "attention_argmax": mean(
            jnp.take_along_axis(after, top, axis=2)[:, :, 0].astype(jnp.float32), batch
        ),
    }
    if len(trace.patterns) > 1:
        first = trace.patterns[0]
        below = jnp.diagonal(first, offset=-1, axis1=1, axis2=2)
        masses["attention_previous"] = jnp.mean(below)
        hit = jnp.argmax(first[:, 1:], axis=-1) == jnp.arange(first.shape[1] - 1)[None]
        masses["attention_previous_argmax"] = jnp.mean(hit)
    return masses


def confusion(task: Task, trace: Trace, batch: Batch) -> Float[Array, "predicted label"]:
    """Fractions of (predicted other, noise) x (label other, noise); the four sum to one."""
    noise = jnp.asarray(task.noise)
    predicted = jnp.isin(jnp.argmax(trace.logits, axis=-1), noise)
    label = jnp.isin(batch.labels, noise)
    rows = [
        [mean(((predicted == p) & (label == q)).astype(jnp.float32), batch) for q in (False, True)]
        for p in (False, True)
    ]
    return jnp.asarray(rows)


def attribution(
    task: Task, config: TransformerConfig, weights: Weights, trace: Trace, batch: Batch
) -> dict[str, Float[Array, ""]]:
    """Direct logit attribution of the noise margin to the blocks that wrote it.

    The margin is logit(noise) - logit(correct), the noise logits averaged; it is linear in
    what each block adds to the residual stream, so the parts sum to the margin where all
    residual connections are on.
    """
    unembed = unembedding(config, weights)
    noise = jnp.mean(unembed[:, jnp.asarray(task.noise)], axis=1)
    direction = noise[None, None] - unembed.T[batch.correct]
    names = ["embedding"]
    for layer in range(config.num_layers):
        names += [f"attention_{layer}", f"feed_forward_{layer}"]
    return {
        name: mean(jnp.sum(part * direction, axis=-1), batch)
        for name, part in zip(names, trace.contributions, strict=True)
    }


def full_model(
    task: Task, config: TransformerConfig, weights: Weights, trace: Trace, batch: Batch
) -> dict[str, Array]:
    """Outputs, attention, confusion and attribution of the model as it is."""
    parts = attribution(task, config, weights, trace, batch)
    return {
        **means(task, trace.logits, batch),
        **attention(task, trace, batch),
        "confusion": confusion(task, trace, batch),
        **{f"margin/{name}": value for name, value in parts.items()},
    }


def _pick(values: Float[Array, "batch scored vocab"], index: Array) -> Array:
    return jnp.take_along_axis(values, index[:, :, None], axis=-1)[:, :, 0]
