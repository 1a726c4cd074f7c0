"""What a recall model predicts at scored positions, and what its attention patterns are.

Everything is a pure function of weights and batches. Probabilities of several noise tokens
are added up. Means are over the scored positions of a batch, unless the docstring has others.

Metrics that are taken slice by slice (probes/truncated.py) come as Values, numbers n with weights
w, because

    mean  =  sum_slices (sum w n)  /  sum_slices (sum w)
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from truncated_weights.toy.layer import Weights, unembedding
from truncated_weights.toy.network import Trace
from truncated_weights.toy.recall import Batch, Scored, Task, mean
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.training.records import Name, name
from truncated_weights.truncation.finite import hits, top, where_known

# Positions at the start of a sequence that the public script measures by themselves: for accuracy,
# and for the attention of the first layer.
FIRST_ACCURACY, FIRST_ATTENTION = 10, 100


class Values(NamedTuple):
    """Numbers and how much each counts; numbers may have more axes than weights."""

    numbers: Float[Array, "..."]
    weights: Float[Array, "..."]

    def sum(self) -> "Total":
        """Both sums."""
        axes = tuple(range(self.weights.ndim))
        return Total(jnp.sum(self.numbers * self._weights(), axis=axes), jnp.sum(self.weights))

    def sum_by(self, groups: Float[Array, "groups rows"]) -> "Total":
        """Sums [groups, ...] of values whose weights are [1, rows], by what each row belongs to."""
        weighted = (self.numbers * self._weights())[0]
        return Total(jnp.tensordot(groups, weighted, axes=1), groups @ self.weights[0])

    def _weights(self) -> Array:
        return self.weights.reshape(
            self.weights.shape + (1,) * (self.numbers.ndim - self.weights.ndim)
        )


class Total(NamedTuple):
    """Weighted sum and sum of weights; totals of several pieces add up."""

    numbers: Float[Array, "..."]
    weight: Float[Array, "..."]

    def mean(self) -> Float[Array, "..."]:
        """The weighted mean; zero where nothing counts."""
        more = self.numbers.ndim - self.weight.ndim
        weight = self.weight.reshape(self.weight.shape + (1,) * more)
        return jnp.where(weight > 0, self.numbers / jnp.where(weight > 0, weight, 1), 0)


def predictions(
    task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch | Scored
) -> dict[str, Array]:
    """Per scored position: p_correct, p_noise, accuracy (0 or 1) and loss in nats.

    All are NaN where logits are.
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    return {
        "p_correct": _pick(p, batch.correct),
        "p_noise": jnp.sum(p[..., jnp.asarray(task.noise)], axis=-1),
        "accuracy": hits(logits, batch.correct),
        "loss": -_pick(log_p, batch.labels),
    }


def means(
    task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch | Scored
) -> dict[str, Float[Array, ""]]:
    """Means of `predictions` over the batch."""
    return {k: mean(v, batch) for k, v in predictions(task, logits, batch).items()}


def label_metrics(
    task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch | Scored
) -> dict[Name, Values]:
    """How the argmax of the full model compares with the label, whichever token that is.

    confusion [predicted, label]: fractions of (predicted other, noise) x (label other, noise).
    label_accuracy: how often the argmax is the token that follows, noise or not.
    label_accuracy_first, label_accuracy_last: the same at the first FIRST_ACCURACY positions and at
    the last position.
    """
    index, known = top(logits)
    noise = jnp.asarray(task.noise)
    predicted, label = jnp.isin(index, noise), jnp.isin(batch.labels, noise)
    table = [[(predicted == p) & (label == q) for q in (False, True)] for p in (False, True)]
    hit = where_known(known, index == batch.labels)
    first = batch.positions < FIRST_ACCURACY
    last = batch.positions == task.length - 1
    return {
        name("confusion", "predicted", "label"): Values(
            jnp.stack([jnp.stack([where_known(known, t) for t in row], -1) for row in table], -2),
            batch.weights,
        ),
        name("label_accuracy"): Values(hit, batch.weights),
        name("label_accuracy_first"): Values(hit, batch.weights * first),
        name("label_accuracy_last"): Values(hit, batch.weights * last),
    }


def attention_metrics(
    task: Task, patterns: tuple[Float[Array, "batch _ length"], ...], batch: Batch
) -> dict[Name, Values]:
    """Attention mass of the last layer on correct and on noise tokens, first layer's on t - 1.

    attention_correct, attention_noise: mass on tokens that follow an earlier occurrence of the
    query's own trigger and are its ybar, or noise.
    attention_argmax: how often the last layer attends most to a token after the query's trigger.
    attention_previous, attention_previous_argmax: the first layer's mass on t - 1, and how often
    that is the largest of its row, at all positions but the first; attention_previous_first: the
    same mass at the first FIRST_ATTENTION positions.

    By the definition of the public script: attention_after_trigger, mass on tokens after any
    trigger, attention_after_noise on the noise among these, attention_after_correct the
    difference. Every trigger counts, the first of each kind with zero, since no token follows an
    earlier one; averaged over the triggers of a sequence, then over sequences that have one.
    """
    last = patterns[-1]
    trigger = jnp.take_along_axis(batch.tokens, batch.positions, axis=1)
    previous = jnp.pad(batch.tokens[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    after = previous[:, None, :] == trigger[:, :, None]
    is_correct = batch.tokens[:, None, :] == batch.correct[:, :, None]
    is_noise = jnp.isin(batch.tokens, jnp.asarray(task.noise))
    most, known = top(last)
    hit = where_known(known, jnp.take_along_axis(after, most[:, :, None], axis=2)[:, :, 0])

    def mass(on: Array) -> Array:
        return jnp.sum(last * on, axis=-1)

    found = {
        name("attention_correct"): Values(mass(after & is_correct), batch.weights),
        name("attention_noise"): Values(mass(after & is_noise[:, None]), batch.weights),
        name("attention_argmax"): Values(hit, batch.weights),
    }
    after_any = jnp.pad(batch.at_trigger[:, :-1], ((0, 0), (1, 0)))
    asked = batch.at_trigger if task.scoring == "every" else batch.weights
    count = jnp.sum(asked, axis=1).astype(jnp.float32)

    def by_sequence(masses: Array) -> Values:
        total = jnp.sum(masses * batch.weights, axis=1)
        return Values(total / jnp.maximum(count, 1), (count > 0).astype(jnp.float32))

    whole, noise = mass(after_any[:, None]), mass((after_any & is_noise)[:, None])
    found[name("attention_after_trigger")] = by_sequence(whole)
    found[name("attention_after_noise")] = by_sequence(noise)
    found[name("attention_after_correct")] = by_sequence(whole - noise)
    if len(patterns) > 1 and patterns[0].shape[1] > 1:
        first = patterns[0]
        below = jnp.diagonal(first, offset=-1, axis1=1, axis2=2)
        highest, sure = top(first[:, 1:])
        right = where_known(sure, highest == jnp.arange(first.shape[1] - 1)[None])
        early = below[:, : FIRST_ATTENTION - 1]
        found[name("attention_previous")] = Values(below, jnp.ones_like(below))
        found[name("attention_previous_argmax")] = Values(right, jnp.ones_like(right))
        found[name("attention_previous_first")] = Values(early, jnp.ones_like(early))
    return found


def attention(task: Task, trace: Trace, batch: Batch) -> dict[Name, Float[Array, ""]]:
    """Means of `attention_metrics` over the batch."""
    return means_of(attention_metrics(task, trace.patterns, batch))


def confusion(task: Task, trace: Trace, batch: Batch) -> Float[Array, "predicted label"]:
    """Fractions of (predicted other, noise) x (label other, noise); the four sum to one."""
    found = label_metrics(task, trace.logits, batch)
    return found[name("confusion", "predicted", "label")].sum().mean()


def margin(task: Task, logits: Float[Array, "batch scored vocab"], batch: Batch | Scored) -> Values:
    """logit(noise) - logit(correct), the noise logits averaged.

    It is linear in what each block adds to the residual stream: the margins of the logits that
    the blocks write one by one sum to that of the model where all residual connections are on.
    """
    noise = jnp.mean(logits[..., jnp.asarray(task.noise)], axis=-1)
    return Values(noise - _pick(logits, batch.correct), batch.weights)


def blocks(config: TransformerConfig) -> list[str]:
    """Names of what writes to the residual stream, in the order of Trace.contributions."""
    names = ["embedding"]
    for layer in range(config.num_layers):
        names += [f"attention_{layer}", f"feed_forward_{layer}"]
    return names


def attribution(
    task: Task, config: TransformerConfig, weights: Weights, trace: Trace, batch: Batch
) -> dict[Name, Float[Array, ""]]:
    """Direct logit attribution: the mean noise margin that each block writes; see `margin`."""
    unembed = unembedding(config, weights)
    found = zip(blocks(config), trace.contributions, strict=True)
    return means_of(
        {name("margin", block=block): margin(task, part @ unembed, batch) for block, part in found}
    )


def full_model(
    task: Task, config: TransformerConfig, weights: Weights, trace: Trace, batch: Batch
) -> dict[Name, Array]:
    """All of the above of the model as it is: outputs, attention, confusion and attribution."""
    return {
        **{name(metric): v for metric, v in means(task, trace.logits, batch).items()},
        **means_of(label_metrics(task, trace.logits, batch)),
        **attention(task, trace, batch),
        **attribution(task, config, weights, trace, batch),
    }


def means_of(values: Mapping[Name, Values]) -> dict[Name, Array]:
    """The mean of each."""
    return {key: value.sum().mean() for key, value in values.items()}


def _pick(values: Float[Array, "batch scored vocab"], index: Array) -> Array:
    return jnp.take_along_axis(values, index[:, :, None], axis=-1)[:, :, 0]
