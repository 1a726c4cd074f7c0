"""Which associations the matrices of a recall model hold, read from weights alone.

Bietti et al., "Birth of a Transformer" (2023): a trained matrix is a sum of outer products
of embeddings, and a recall accuracy asks how often the argmax it gives is the right one.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.toy.layer import Layer, Weights, scale_by_diagonal, unembedding
from truncated_weights.toy.recall import Task
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation.finite import hits


def recalls(task: Task, config: TransformerConfig, weights: Weights) -> dict[str, Float[Array, ""]]:
    """Argmax accuracies of the three memories of the two-layer circuit, each in [0, 1].

    previous_token   first layer's W_K: of all positions s <= t, P_t matches P_{t-1} best
    induction        last layer's W_K: E[q] matches, of all tokens k, the mark "after k" that
                     the first layer's values leave best for k = q; mean over triggers
    copy             last layer's W_V W_O maps E[k], of all tokens, to its own unembedding;
                     mean over outputs
    """
    layers, embed = weights["layers"], weights["embed"]
    first, last = layers[0], layers[config.num_layers - 1]
    found = {"copy": _copy(task, config, embed, last, unembedding(config, weights))}
    if config.num_layers > 1:
        found["induction"] = _induction(task, config, embed, first, last)
    if config.positions not in ("none", "rotary"):
        found["previous_token"] = _previous_token(weights["position"], first)
    return found


def _query(x: Array, layer: Weights) -> Array:
    return x @ layer["q_proj"] if "q_proj" in layer else x


def _value(config: TransformerConfig, x: Array, layer: Weights) -> Array:
    return x @ layer["v_proj"] if config.learned_value else scale_by_diagonal(config, x)


def _previous_token(position: Array, layer: Weights) -> Array:
    scores = _query(position, layer) @ (position @ layer["k_proj"]).T
    times = jnp.arange(len(position))
    scores = jnp.where(times[None] <= times[:, None], scores, -jnp.inf)
    return jnp.mean(hits(scores[1:], times[:-1]))


def _induction(
    task: Task, config: TransformerConfig, embed: Array, first: Weights, last: Weights
) -> Array:
    marks = _value(config, embed, first) @ first["out_proj"]
    triggers = jnp.asarray(task.triggers)
    scores = _query(embed[triggers], last) @ (marks @ last["k_proj"]).T
    return jnp.mean(hits(scores, triggers))


def _copy(
    task: Task, config: TransformerConfig, embed: Array, last: Weights, unembed: Array
) -> Array:
    tokens = jnp.asarray(task.outputs)
    scores = _value(config, embed[tokens], last) @ last["out_proj"] @ unembed
    return jnp.mean(hits(scores, tokens))


def feed_forward_margins(
    task: Task, config: TransformerConfig, weights: Weights
) -> dict[str, Float[Array, ""]]:
    """logit(noise) - max other logit that a feed-forward gives at the trigger, E[q] its input.

    One entry per layer ("0", "1", ...); with two, "0+1" for the second one reading what the first
    adds to E[q] together with E[q], and "0>1" for what it adds alone, as the public script has it.
    Means over triggers. With several noise tokens, the largest of their logits.
    """
    out = unembedding(config, weights)
    layers = [Layer(config, weights, index, {}) for index in range(config.num_layers)]
    triggers = weights["embed"][jnp.asarray(task.triggers)]
    found = {
        str(layer.index): _margin(task, layer.feed_forward(triggers) @ out) for layer in layers
    }
    if config.num_layers == 2:
        added = layers[0].feed_forward(triggers)
        found["0+1"] = _margin(task, layers[1].feed_forward(triggers + added) @ out)
        found["0>1"] = _margin(task, layers[1].feed_forward(added) @ out)
    return found


def bigram_divergences(
    task: Task, config: TransformerConfig, weights: Weights
) -> dict[str, dict[str, Float[Array, ""]]]:
    """KL(bigram law || softmax of W_U FF(E[v])) in nats, averaged over tokens v by their law.

    Are the feed-forwards where the bigrams live? `bigram_kl` has one entry per feed-forward ("0",
    "1", ...), and "uniform", that of equal logits; `bigram_kl_even` is the same where every token
    counts alike, as in the public script. Triggers are left out, because no bigram follows them.
    Empty where the law is traced.
    """
    if not isinstance(task.transition, np.ndarray) or not isinstance(task.initial, np.ndarray):
        return {}
    counted = np.where(np.isin(np.arange(task.vocab_size), task.triggers), 0, task.initial)
    laws = {
        "bigram_kl": counted / counted.sum(),
        "bigram_kl_even": (counted > 0) / np.count_nonzero(counted),
    }
    rows = jnp.asarray(task.transition, jnp.float32)
    negative_entropies = jnp.sum(jax.scipy.special.xlogy(rows, rows), axis=1)

    out = unembedding(config, weights)
    logits = {"uniform": jnp.zeros_like(rows)}
    for index, kind in enumerate(config.feed_forward):
        if kind != "none":
            fed = Layer(config, weights, index, {}).feed_forward(weights["embed"])
            logits[str(index)] = fed @ out
    each = {
        part: negative_entropies - jnp.sum(rows * jax.nn.log_softmax(given, axis=1), axis=1)
        for part, given in logits.items()
    }
    return {
        name: {part: jnp.sum(jnp.asarray(law, jnp.float32) * kl) for part, kl in each.items()}
        for name, law in laws.items()
    }


def _margin(task: Task, logits: Float[Array, "triggers vocab"]) -> Array:
    is_noise = jnp.isin(jnp.arange(logits.shape[1]), jnp.asarray(task.noise))[None]
    noise = jnp.max(jnp.where(is_noise, logits, -jnp.inf), axis=1)
    other = jnp.max(jnp.where(is_noise, -jnp.inf, logits), axis=1)
    return jnp.mean(noise - other)
