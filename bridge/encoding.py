"""Examples as arrays: prompt and answer tokenised together, padded on the right.

A row is one sequence, prompt and continuation. Row 0 of an example is its answer; a
distractor of one token is read off the same logits as the answer's first token, so only
longer distractors have rows of their own.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.network import check_ids, check_tokens
from truncated_weights.bridge.tasks.example import Encode, Example, TaskError, is_single
from truncated_weights.bridge.tokenizer import Holes

NOISE = " the"


class EncodedBatch(NamedTuple):
    """Encoded examples; every array has a leading axis of examples.

    tokens hold the prompt and all but the last token of the continuation. The logits at
    position at[..., j] predict targets[..., j]; counted is false at padding, of answers
    and of whole rows. rivals are the distractors of one token, -1 for padding. number is
    the examples of one list.
    """

    tokens: Int[np.ndarray, "examples rows length"]
    mask: Bool[np.ndarray, "examples rows length"]
    at: Int[np.ndarray, "examples rows answers"]
    targets: Int[np.ndarray, "examples rows answers"]
    counted: Bool[np.ndarray, "examples rows answers"]
    rivals: Int[np.ndarray, "examples rivals"]
    number: Int[np.ndarray, " examples"]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What scoring must know of the tokens; hashable, so it may be static under jit.

    noise is the token " the"; ids from num_tokens on, and those in holes, are padding rows of
    the embedding, which no text can hold, and are masked. rivals says that every example has
    distractors.
    """

    noise: int
    num_tokens: int
    rivals: bool
    holes: Holes = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Examples with their arrays; dropped says, a line each, what was left out and why.

    places tells where each distractor of an example went: k is the k-th of its rivals,
    -j its j-th row.
    """

    examples: tuple[Example, ...]
    batch: EncodedBatch
    vocabulary: Vocabulary
    dropped: tuple[str, ...] = ()
    places: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        """How many examples."""
        return len(self.examples)


class _Row(NamedTuple):
    """One sequence: all its tokens, and how many come before the continuation."""

    tokens: list[int]
    start: int


def encode_examples(
    examples: Sequence[Example],
    encode: Encode,
    *,
    num_tokens: int,
    max_length: int = 2048,
    max_distractors: int = 8,
    prefix: Sequence[int] = (),
    noise: str = NOISE,
    mask_token: int | None = None,
    suffix: Sequence[int] = (),
) -> Encoded:
    """Tokenise examples for scoring.

    encode gives the ids of a text and adds none of its own; prefix (the id of a
    beginning-of-text token, say) goes in front of every row. Prompt and continuation are
    tokenised together; where that changes the end of the prompt, the continuation begins
    with the first token that differs, for the answer and its distractors alike. Examples
    of more than max_length tokens are dropped and reported; distractors beyond
    max_distractors are not used, nor those that have the tokens of the answer: no choice
    between the two could be won. Those are taken out of their example, and reported. A prompt
    that begins with the prefix already does not get it twice.

    For a masked model (RoBERTa) mask_token stands for every token of the continuation, all of
    them hidden at once as LASER has it, suffix (the id that ends a text) follows, and each
    token is predicted where its mask is.

    Ids from num_tokens on, and the holes of an encode that is a Tokenizer, are no tokens.

    Raises TaskError where no example is left, a continuation adds no token, noise is not a
    single token, or an id is not below num_tokens: the model has no such token, though that
    be the last one, which is predicted and never read.
    """
    found = encode(noise)
    if len(found) != 1:
        raise TaskError(f"noise {noise!r} is {len(found)} tokens in this tokenizer; expected one")
    if not is_single(encode, noise):
        raise TaskError(f"noise {noise!r} is no token of this tokenizer, which reads it as unknown")
    _require_below(num_tokens, noise, found)
    around = [*suffix, *([] if mask_token is None else [mask_token])]
    kept, rows, rivals, places, long = [], [], [], [], 0
    same: dict[str, None] = {}
    for given in examples:
        example, own, single, where = _rows_of(given, encode, list(prefix), max_distractors)
        same |= dict.fromkeys(set(given.distractors) - set(example.distractors))
        for row in own:
            _require_below(num_tokens, example.prompt[-30:], row.tokens)
        _require_below(num_tokens, example.prompt[-30:], [*single, *around])
        if max(len(row.tokens) for row in own) + len(suffix) > max_length:
            long += 1
            continue
        kept.append(example)
        rows.append(own)
        rivals.append(single)
        places.append(where)
    if not kept:
        raise TaskError(
            f"none of {len(examples)} examples has at most {max_length} tokens"
            if examples
            else "no examples"
        )
    dropped = [f"{long} of {len(examples)} examples exceed {max_length} tokens"] if long else []
    if same:
        listed = ", ".join(sorted(map(repr, same)))
        dropped.append(f"distractors with the tokens of their answer, left out: {listed}"[:400])
    # Distractors that are not used are no rivals.
    vocabulary = Vocabulary(found[0], num_tokens, all(places), getattr(encode, "holes", ()))
    return Encoded(
        tuple(kept),
        _arrays(rows, rivals, mask_token, list(suffix)),
        vocabulary,
        tuple(dropped),
        tuple(places),
    )


def begun(prefix: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """The tokens after the prefix, which is not put before a text that begins with it already."""
    here = list(prefix)
    return list(tokens) if here == list(tokens[: len(here)]) else [*here, *tokens]


def check(config: Config, batch: EncodedBatch, vocabulary: Vocabulary | None = None) -> None:
    """ValueError where a model cannot read these examples, or has no such token to predict.

    Read are tokens, predicted are targets, rivals and the noise: the last token of an answer is
    only predicted, so that no embedding would miss it.
    """
    check_tokens(config, batch.tokens, batch.mask)
    size = config.vocab_size
    if vocabulary is not None:
        size = min(size, vocabulary.num_tokens)
        check_ids(size, np.array([vocabulary.noise]), "noise ids")
    check_ids(size, batch.targets[batch.counted], "answer tokens")
    check_ids(size, batch.rivals[batch.rivals != -1], "distractor tokens")


def take(batch: EncodedBatch, indices: Int[np.ndarray, " n"]) -> EncodedBatch:
    """These examples, without the padding that only others need, in lengths of few kinds."""
    chosen = EncodedBatch(*(leaf[indices] for leaf in batch))
    length = bucket_length(int(chosen.mask.sum(axis=-1).max()))
    rows = int(chosen.counted.any(axis=-1).sum(axis=-1).max())
    answers = int(chosen.counted.sum(axis=-1).max())
    length = min(length, chosen.tokens.shape[-1])
    return chosen._replace(
        tokens=chosen.tokens[:, :rows, :length],
        mask=chosen.mask[:, :rows, :length],
        at=chosen.at[:, :rows, :answers],
        targets=chosen.targets[:, :rows, :answers],
        counted=chosen.counted[:, :rows, :answers],
    )


def select(encoded: Encoded, indices: Int[np.ndarray, " n"]) -> Encoded:
    """The examples at these indices, in this order."""
    examples = tuple(encoded.examples[i] for i in indices)
    batch = EncodedBatch(*(leaf[indices] for leaf in encoded.batch))
    places = tuple(encoded.places[i] for i in indices)
    return Encoded(examples, batch, encoded.vocabulary, places=places)


def flat(leaf: Any) -> Any:
    """[examples, rows, ...] -> [examples * rows, ...], as the network reads it."""
    return leaf.reshape(-1, *leaf.shape[2:])


def bucket_length(length: int) -> int:
    """The least of 8, 16, 24, 32, 48, 64, 96, 128, ... that is not below length.

    Each is at most one and a half times the one before (from 16 on), so that padding
    stays below a third and there are few shapes to compile.
    """
    bucket = 8
    while bucket < length:
        bucket = bucket * 3 // 2 if bucket & (bucket - 1) == 0 and bucket >= 16 else _above(bucket)
    return bucket


def _above(number: int) -> int:
    return 1 << number.bit_length()


def _rows_of(
    example: Example, encode: Encode, prefix: list[int], max_distractors: int
) -> tuple[Example, list[_Row], list[int], tuple[int, ...]]:
    """The example without distractors that have its answer's tokens; its rows, the answer's
    first, its distractors of a single token, and where each distractor went.
    """
    context = begun(prefix, encode(example.prompt))
    texts = (example.answer, *example.distractors[:max_distractors])
    whole = [begun(prefix, encode(example.prompt + text)) for text in texts]
    start = min(_common(context, tokens) for tokens in whole)
    if start == 0:
        raise TaskError(
            f"prompt {example.prompt[-30:]!r} and answer {example.answer!r} begin with one "
            "token, which nothing predicts"
        )
    for text, tokens in zip(texts, whole, strict=True):
        if len(tokens) == start:
            raise TaskError(f"{text!r} adds no token to prompt {example.prompt[-30:]!r}")
    answer, *others = whole
    copies = {text for text, tokens in zip(texts[1:], others, strict=True) if tokens == answer}
    if copies:
        kept = tuple(text for text in example.distractors if text not in copies)
        example = dataclasses.replace(example, distractors=kept)
        others = [tokens for tokens in others if tokens != answer]
    rows = [_Row(answer, start)]
    rivals: list[int] = []
    places: list[int] = []
    for tokens in others:
        if len(tokens) == start + 1:
            places.append(len(rivals))
            rivals.append(tokens[start])
        else:
            places.append(-len(rows))
            rows.append(_Row(tokens, start))
    return example, rows, rivals, tuple(places)


def _require_below(num_tokens: int, text: str, ids: Sequence[int]) -> None:
    if ids and max(ids) >= num_tokens:
        raise TaskError(
            f"the tokenizer gives id {max(ids)} for {text!r}, the model has {num_tokens} tokens"
        )


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    length = min(len(first), len(second))
    return next((i for i in range(length) if first[i] != second[i]), length)


def _read(row: _Row, mask_token: int | None, suffix: list[int]) -> tuple[list[int], int]:
    """The tokens that the model reads, and the place that predicts the first of the answer."""
    if mask_token is None:
        # The last token is only predicted, never read.
        return row.tokens[:-1], row.start - 1
    hidden = [mask_token] * (len(row.tokens) - row.start)
    return [*row.tokens[: row.start], *hidden, *suffix], row.start


def _arrays(
    rows: Sequence[Sequence[_Row]],
    rivals: Sequence[Sequence[int]],
    mask_token: int | None,
    suffix: list[int],
) -> EncodedBatch:
    examples, most = len(rows), max(map(len, rows))
    flat = [row for own in rows for row in own]
    length = bucket_length(max(len(_read(row, mask_token, suffix)[0]) for row in flat))
    answers = max(len(row.tokens) - row.start for row in flat)
    tokens = np.zeros((examples, most, length), np.int32)
    mask = np.zeros((examples, most, length), bool)
    at = np.zeros((examples, most, answers), np.int32)
    targets = np.zeros((examples, most, answers), np.int32)
    counted = np.zeros((examples, most, answers), bool)
    for i, own in enumerate(rows):
        for j, row in enumerate(own):
            read, first = _read(row, mask_token, suffix)
            count = len(row.tokens) - row.start
            tokens[i, j, : len(read)] = read
            mask[i, j, : len(read)] = True
            at[i, j] = first + np.minimum(np.arange(answers), count - 1)
            targets[i, j, :count] = row.tokens[row.start :]
            counted[i, j, :count] = True
    single = np.full((examples, max(map(len, rivals), default=0)), -1, np.int32)
    for i, tokens_of_one in enumerate(rivals):
        single[i, : len(tokens_of_one)] = tokens_of_one
    return EncodedBatch(
        tokens, mask, at, targets, counted, single, np.arange(examples, dtype=np.int32)
    )


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """The examples of several parts in one list, in order; one tokenizer must have made them."""
    shapes = [np.max([leaf.shape[1:] for leaf in leaves], axis=0) for leaves in _by_field(parts)]
    leaves = []
    for name, shape, group in zip(EncodedBatch._fields, shapes, _by_field(parts), strict=True):
        empty = -1 if name == "rivals" else 0
        widened = [
            np.pad(
                leaf,
                [(0, 0), *((0, w - h) for w, h in zip(shape, leaf.shape[1:], strict=True))],
                constant_values=empty,
            )
            for leaf in group
        ]
        leaves.append(np.concatenate(widened))
    batch = EncodedBatch(*leaves)._replace(number=np.arange(sum(map(len, parts)), dtype=np.int32))
    first = parts[0].vocabulary
    vocabulary = dataclasses.replace(first, rivals=all(p.vocabulary.rivals for p in parts))
    examples = tuple(example for part in parts for example in part.examples)
    dropped = tuple(line for part in parts for line in part.dropped)
    places = tuple(where for part in parts for where in part.places)
    return Encoded(examples, batch, vocabulary, dropped, places)


def _by_field(parts: Sequence[Encoded]) -> list[list[np.ndarray]]:
    return [[part.batch[i] for part in parts] for i in range(len(EncodedBatch._fields))]
