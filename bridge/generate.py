"""Text from a language model: greedy or sampled, keys and values of earlier tokens kept.

    texts = bridge.generate(checkpoint, ["Once upon a time"], max_new_tokens=20)
    tokens = bridge.generate(checkpoint, prompts, max_new_tokens=20)     # [batch, length]

The prompts run once; then one compiled loop feeds every new token through the layers, which
look back at what they kept: per layer two arrays [batch, columns, groups, head_dim]. The
layers are those of bridge.network, so cut and factored weights, windows and every family
work, and in float32 the tokens are those of a whole forward pass each time.

Tokens that begin every prompt of a batch (the examples of a few-shot prompt) run once for all.

With a LongRope the frequencies of the whole text change when it outgrows the original length,
and with them all that was kept; at that token, and only there, the text runs anew.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from truncated_weights.bridge import network as model
from truncated_weights.bridge.checkpoint import Checkpoint
from truncated_weights.bridge.config import Config, LongRope
from truncated_weights.bridge.encoding import begun
from truncated_weights.bridge.families.angles import rotate
from truncated_weights.bridge.formats import chat
from truncated_weights.bridge.tokenizer import Holes, mask_padding

# Which ids can be chosen: see mask_padding.
_Real = tuple[int, Holes]
ENDED, _LOST = -1, -2
_BETWEEN_LOOKS = 16  # tokens between two looks of the host for stop strings
_SHARED_STEP = 32  # beginnings are shared in multiples of so many tokens: few shapes to compile


class _Kept(NamedTuple):
    keys: Float[Array, "batch columns groups head_dim"]
    values: Float[Array, "batch columns groups head_dim"]


class _State(NamedTuple):
    """Between two tokens: `tokens[:, : made]` are out, the last of them not yet fed.

    text holds prompt and new tokens, column by column, and mask says which are real and fed.
    """

    text: Int[Array, "batch columns"]
    kept: tuple[_Kept, ...]
    mask: Bool[Array, "batch columns"]
    tokens: Int[Array, "batch new"]
    done: Bool[Array, " batch"]
    made: Int[Array, ""]


class _Choice(NamedTuple):
    """How a token is chosen: traced values, so that changing them compiles nothing."""

    key: PRNGKeyArray
    temperature: Float[Array, ""]
    stop: Int[Array, " stops"]


def _index(*where: Any) -> tuple[Int[Array, ""], ...]:
    # All of one type, whatever Python's own numbers become where 64 bits are switched on.
    return tuple(jnp.asarray(one, jnp.int32) for one in where)


def _layer(
    layer_params: Any,
    config: Config,
    x: Float[Array, "batch n d_model"],
    rows: Int[Array, "batch n"],
    kept: _Kept,
    context: model.Context,
) -> tuple[Float[Array, "batch n d_model"], _Kept]:
    """One layer at the columns `rows`, which follow those already kept."""
    inputs = model.attention_inputs(layer_params, config, x)
    keys, values = model.keys_and_values(layer_params, config, inputs)
    positions = jnp.take_along_axis(context.positions, rows, axis=1)
    query = model.queries(layer_params, config, inputs)
    query, keys = (rotate(x, positions, context.lengths, config) for x in (query, keys))
    corner = _index(0, rows[0, 0], 0, 0)
    kept = _Kept(
        jax.lax.dynamic_update_slice(kept.keys, keys, corner),
        jax.lax.dynamic_update_slice(kept.values, values, corner),
    )
    mixed = model.attend(config, query, rows, kept.keys, kept.values, context)
    attended = model.apply_linear(layer_params["out_proj"], mixed)
    return model.after_attention(layer_params, config, x, attended), kept


def _run(
    params: Any,
    config: Config,
    text: Int[Array, "batch n"],
    rows: Int[Array, "batch n"],
    kept: tuple[_Kept, ...],
    context: model.Context,
) -> tuple[Float[Array, "batch n d_model"], tuple[_Kept, ...]]:
    """The stream after the last layer at the columns `rows`, and what is kept with them."""
    positions = jnp.take_along_axis(context.positions, rows, axis=1)
    x = model.embed(model.outer_params(params), config, text, positions)
    new = []
    for index, layer_params in enumerate(params["layers"]):
        x, one = _layer(layer_params, config.of_layer(index), x, rows, kept[index], context)
        new.append(one)
    return x, tuple(new)


def _refreshed(
    params: Any, config: Config, state: _State, mask: Bool[Array, "batch columns"]
) -> tuple[_Kept, ...]:
    """What is kept, anew for texts that `mask` makes longer than a LongRope's original."""
    scaling = config.rope_scaling
    if not isinstance(scaling, LongRope):
        return state.kept
    before, now = (jnp.sum(m, axis=1) for m in (state.mask, mask))
    outgrown = jnp.any((before <= scaling.original) & (now > scaling.original))
    rows = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)

    def anew(kept: tuple[_Kept, ...]) -> tuple[_Kept, ...]:
        return _run(params, config, state.text, rows, kept, model.context_of(mask))[1]

    return jax.lax.cond(outgrown, anew, lambda kept: kept, state.kept)


def _head(params: Any, config: Config, x: Float[Array, "batch 1 d"]) -> Float[Array, "batch vocab"]:
    return model.final_logits(model.outer_params(params), config, x)[:, 0]


def _choose(
    state: _State, logits: Float[Array, "batch vocab"], choice: _Choice, greedy: bool, real: _Real
) -> _State:
    """The state with one token more; rows that have ended get ENDED.

    A row whose logits are not finite ends with _LOST: argmax would take NaN for the largest.
    """
    logits = mask_padding(logits, *real)
    if greedy:
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    else:
        key = jax.random.fold_in(choice.key, state.made)
        token = jax.random.categorical(key, logits / choice.temperature).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0]
    token = jnp.where(jnp.isfinite(chosen), token, _LOST)
    token = jnp.where(state.done, ENDED, token)
    stopped = (token == _LOST) | jnp.any(token[:, None] == choice.stop[None], axis=1)
    column = state.text.shape[1] - state.tokens.shape[1] + state.made
    put = jax.lax.dynamic_update_slice
    return state._replace(
        text=put(state.text, jnp.maximum(token, 0)[:, None], _index(0, column)),
        tokens=put(state.tokens, token[:, None], _index(0, state.made)),
        done=state.done | stopped,
        made=state.made + 1,
    )


_STATIC = ("config", "greedy", "real")


def _shared(config: Config, tokens: np.ndarray, mask: np.ndarray) -> int:
    """How many columns at the beginning hold one text in every row, and are to run once."""
    # A LongRope turns a beginning by the length of the whole text.
    if len(tokens) == 1 or isinstance(config.rope_scaling, LongRope):
        return 0
    same = np.all((tokens == tokens[:1]) & mask, axis=0)
    # Every row keeps its last token for itself: what follows it is asked for.
    common = min(int(np.argmin(np.append(same, False))), int(mask.sum(axis=1).min()) - 1)
    return common // _SHARED_STEP * _SHARED_STEP


def _once(
    params: Any, config: Config, beginning: Int[Array, "1 shared"], kept: tuple[_Kept, ...]
) -> tuple[_Kept, ...]:
    """What is kept of all rows, after the beginning that they share has run in one of them."""
    batch, shared = kept[0].keys.shape[0], beginning.shape[1]
    rows, there = jnp.arange(shared)[None], jnp.ones((1, shared), bool)
    empty = tuple(_Kept(*(leaf[:1, :shared] for leaf in one)) for one in kept)
    _, found = _run(params, config, beginning, rows, empty, model.context_of(there))
    return tuple(
        _Kept(
            *(
                leaf.at[:, :shared].set(jnp.broadcast_to(part, (batch, *part.shape[1:])))
                for leaf, part in zip(one, own, strict=True)
            )
        )
        for one, own in zip(kept, found, strict=True)
    )


@functools.partial(jax.jit, static_argnames=("new", "shared", *_STATIC))
def _start(
    params: Any,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"],
    choice: _Choice,
    *,
    new: int,
    shared: int,
    config: Config,
    greedy: bool,
    real: _Real,
) -> _State:
    """The prompts run, their `shared` first columns once, and the first token chosen."""
    batch, length = tokens.shape
    dtype = params["embed_in"]["embedding"].dtype
    empty = jnp.zeros((batch, length + new, config.groups, config.head_dim), dtype)
    text = jnp.pad(tokens, ((0, 0), (0, new)))
    whole = jnp.pad(mask, ((0, 0), (0, new)))
    rows = jnp.broadcast_to(jnp.arange(length), (batch, length))
    kept = (_Kept(empty, empty),) * config.num_layers
    if shared:
        kept = _once(params, config, tokens[:1, :shared], kept)
    own = tokens[:, shared:], rows[:, shared:]
    x, kept = _run(params, config, *own, kept, model.context_of(whole))
    last = jnp.max(jnp.where(mask, rows, 0), axis=1, keepdims=True) - shared
    out = jnp.full((batch, new), ENDED, jnp.int32)
    state = _State(text, kept, whole, out, jnp.zeros(batch, bool), jnp.int32(0))
    return _choose(state, _head(params, config, model.gather(x, last)), choice, greedy, real)


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames="state")
def _go_on(
    params: Any,
    state: _State,
    until: Int[Array, ""],
    choice: _Choice,
    *,
    config: Config,
    greedy: bool,
    real: _Real,
) -> _State:
    """Tokens up to `until`, or until every row has ended."""
    batch, columns = state.mask.shape
    length = columns - state.tokens.shape[1]

    def more(state: _State) -> Bool[Array, ""]:
        return (state.made < until) & ~jnp.all(state.done)

    def step(state: _State) -> _State:
        column = length + state.made - 1
        mask = jax.lax.dynamic_update_slice(state.mask, ~state.done[:, None], _index(0, column))
        kept = _refreshed(params, config, state, mask)
        rows = jnp.broadcast_to(column, (batch, 1))
        fed = jax.lax.dynamic_slice(state.text, _index(0, column), (batch, 1))
        x, kept = _run(params, config, fed, rows, kept, model.context_of(mask))
        state = state._replace(kept=kept, mask=mask)
        return _choose(state, _head(params, config, x), choice, greedy, real)

    return jax.lax.while_loop(more, step, state)


def padded(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, "batch length"], Bool[np.ndarray, "batch length"]]:
    """Lists of ids of several lengths as one array, padded on the left, and its mask."""
    length = max(map(len, rows), default=0)
    tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for place, row in enumerate(rows):
        tokens[place, length - len(row) :], mask[place, length - len(row) :] = row, True
    return tokens, mask


def generate(
    checkpoint: Checkpoint,
    prompts: Any,
    *,
    max_new_tokens: int,
    **options: Any,
) -> Any:
    """What continues each prompt: texts for texts, tokens [batch, new] for tokens.

    prompts are a text or several; chats, each a list of messages with role and content, set by
    the model's own template; lists of ids of any lengths; or an array of ids [batch, length].
    options are those of `continue_tokens`. Raises what that does, and CheckpointError for texts
    where there is no tokenizer.
    """
    if isinstance(prompts, np.ndarray | Array) and prompts.ndim != 2:
        raise ValueError(f"tokens have the shape {prompts.shape}; expected [batch, length]")
    if isinstance(prompts, np.ndarray | Array):
        return continue_tokens(checkpoint, prompts, max_new_tokens=max_new_tokens, **options)
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    if not several:
        raise ValueError("no prompts")
    if all(isinstance(one, int | np.integer) for one in several):
        raise ValueError("a flat list of ids; give a list of prompts, [[...]]")
    if all(isinstance(one, Sequence) and one and isinstance(one[0], Mapping) for one in several):
        assert checkpoint.directory is not None or checkpoint.tokenizer
        several = [chat.render(checkpoint.directory, one) for one in several]  # type: ignore[arg-type]
    if not all(isinstance(one, str) for one in several):
        tokens, mask = padded(several)  # type: ignore[arg-type]
        return continue_tokens(
            checkpoint, tokens, mask=mask, max_new_tokens=max_new_tokens, **options
        )
    words = checkpoint.tokenizer
    rows = [begun(words.prefix(), words(str(text))) for text in several]
    tokens, mask = padded(rows)
    found = continue_tokens(checkpoint, tokens, mask=mask, max_new_tokens=max_new_tokens, **options)
    ends = set(checkpoint.ends if options.get("ends") is None else options["ends"])
    return [words.decode([int(t) for t in row if t != ENDED and t not in ends]) for row in found]


def continue_tokens(
    checkpoint: Checkpoint,
    tokens: Int[Array | np.ndarray, "batch length"],
    *,
    max_new_tokens: int,
    mask: Bool[Array | np.ndarray, "batch length"] | None = None,
    stop: Sequence[str | int] = (),
    ends: Sequence[int] | None = None,
    temperature: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Int[np.ndarray, "batch new"]:
    """The tokens that continue each prompt, max_new_tokens of them; -1 after a row's end.

    mask is true at real tokens; prompts of several lengths are padded on either side. A row
    ends with the token that is in `stop`, or that completes a text in `stop`, and with every
    token that ends a text: those of checkpoint.ends, unless others or none are given. temperature 0
    takes the most probable token, others sample from softmax(logits / temperature) and need
    a key. Ids that no text can mean (padding rows of the embedding) are never chosen where
    the checkpoint has a tokenizer. Activations have the dtype of the parameters.

    Raises ValueError for a masked model, tokens outside the vocabulary, a prompt without
    tokens, texts longer than the model's positions, or sampling without a key; and
    CheckpointError for a text in `stop` where there is no tokenizer; NotFiniteError for a model
    that says NaN or infinity.
    """
    config, host = checkpoint.config, np.asarray(tokens)
    real = np.ones(host.shape, bool) if mask is None else np.asarray(mask, bool)
    _check(config, host, real, max_new_tokens, temperature, key)
    words = checkpoint.tokenizer if any(isinstance(text, str) for text in stop) else None
    size, holes = config.vocab_size, Holes()
    if checkpoint.has_tokenizer:
        size, holes = min(size, checkpoint.tokenizer.size), checkpoint.tokenizer.holes
    ended = checkpoint.ends if ends is None else ends
    choice = _Choice(
        jax.random.key(0) if key is None else key,
        jnp.float32(temperature),
        jnp.asarray([token for token in (*stop, *ended) if isinstance(token, int)], jnp.int32),
    )
    static: dict[str, Any] = {"config": config, "greedy": temperature == 0, "real": (size, holes)}
    ids, there = jnp.asarray(host, jnp.int32), jnp.asarray(real)
    begun = {"new": max_new_tokens, "shared": _shared(config, host, real)}
    state = _start(checkpoint.params, ids, there, choice, **begun, **static)
    if words is None:
        end = jnp.int32(max_new_tokens)
        return _found(checkpoint, _go_on(checkpoint.params, state, end, choice, **static))
    texts = [text for text in stop if isinstance(text, str)]
    looked = 0
    while True:
        _found(checkpoint, state)
        state, looked = _look(state, words, texts, looked), int(state.made)
        if looked >= max_new_tokens or bool(jnp.all(state.done)):
            return np.asarray(state.tokens)
        end = jnp.int32(min(looked + _BETWEEN_LOOKS, max_new_tokens))
        state = _go_on(checkpoint.params, state, end, choice, **static)


def _found(checkpoint: Checkpoint, state: _State) -> Int[np.ndarray, "batch new"]:
    """The tokens made so far; NotFiniteError where the model had no numbers to choose by."""
    tokens = np.asarray(state.tokens)
    lost = np.flatnonzero(np.any(tokens == _LOST, axis=1))
    if len(lost):
        text, there = (np.asarray(leaf)[lost[:1]] for leaf in (state.text, state.mask))
        what = f"logits behind {len(lost)} of {len(tokens)} texts"
        raise checkpoint.not_finite(text, there, what=what)
    return tokens


def _look(state: _State, words: Any, texts: Sequence[str], looked: int) -> _State:
    """End the rows in which a text has appeared, after the token that completed it."""
    tokens, done = np.array(state.tokens), np.array(state.done)
    for row in range(len(tokens)):
        for index in range(looked, int(state.made)):
            if tokens[row, index] == ENDED:
                break
            text = words.decode(tokens[row, : index + 1].tolist())
            if any(stop in text for stop in texts):
                tokens[row, index + 1 :], done[row] = ENDED, True
                break
    return state._replace(tokens=jnp.asarray(tokens), done=jnp.asarray(done))


def _check(
    config: Config,
    tokens: np.ndarray,
    mask: np.ndarray,
    max_new_tokens: int,
    temperature: float,
    key: PRNGKeyArray | None,
) -> None:
    if config.masked:
        raise ValueError(f"a {config.family} fills masks in; it does not continue a text")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; expected 0 or a positive number")
    if temperature and key is None:
        raise ValueError("sampling needs a key: key=jax.random.key(0)")
    model.check_tokens(config, tokens, mask, new=max_new_tokens)
    if not np.all(mask.sum(axis=1)):
        raise ValueError("a prompt has no tokens; begin it with one, such as the BOS token")
