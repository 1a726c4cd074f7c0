"""Generated answers to a task's prompts, marked as the task says.

    for index, text in answers.stream(checkpoint, examples, task.marking, batch_size=16): ...

Prompts of like length run together, the longest first: whether memory suffices is seen at
once, and what is left takes less time than it seems.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from truncated_weights.bridge.checkpoint import Checkpoint
from truncated_weights.bridge.encoding import begun, bucket_length
from truncated_weights.bridge.generate import ENDED, generate
from truncated_weights.bridge.tasks.example import Encode, Example, Marking, TaskError
from truncated_weights.bridge.tasks.metrics import generated
from truncated_weights.truncation.finite import NotFiniteError


def stream(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    marking: Marking,
    *,
    batch_size: int = 16,
    prefix: Sequence[int] = (),
    encode: Encode | None = None,
) -> Iterator[tuple[int, str]]:
    """(index, text) of every example, a batch at a time, greedy, cut at the stop strings and at
    the end of the text.

    prefix (the id of a token that begins a text, say) goes in front of every prompt that does not
    begin with it already; encode
    is the checkpoint's own tokenizer unless given. Raises TaskError where a prompt and its
    answer do not fit the model's positions, before anything is generated.
    """
    words = encode or checkpoint.tokenizer
    prompts = [begun(prefix, words(example.prompt)) for example in examples]
    most = checkpoint.config.max_positions - marking.new_tokens
    if long := sum(len(prompt) > most for prompt in prompts):
        raise TaskError(
            f"{long} of {len(prompts)} prompts leave no room for {marking.new_tokens} tokens in "
            f"{checkpoint.config.max_positions} positions"
        )
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        # The last batch is filled up with its first prompt, so that few shapes are compiled.
        rows = members + members[:1] * (min(batch_size, len(order)) - len(members))
        tokens, mask = _padded([prompts[index] for index in rows], most)
        found = generate(
            checkpoint,
            tokens,
            mask=mask,
            max_new_tokens=marking.new_tokens,
            stop=marking.stop,
        )
        for index, ids in zip(members, found, strict=False):
            yield index, text_of(checkpoint, ids, marking)


@dataclasses.dataclass(frozen=True, eq=False)
class Marks:
    """Marks of generated answers as scores of a search: truncation.search.scorer.ExtraScores.

    With it every candidate is asked to generate, as LASER compares candidates where answers are
    free text, and "contains" is an objective like any other.
    """

    checkpoint: Checkpoint
    examples: Sequence[Example]
    marking: Marking
    prefix: Sequence[int] = ()
    batch_size: int = 16

    @property
    def description(self) -> str:
        """The marking, what stands before prompts, and what ends texts."""
        return f"{self.marking} {tuple(self.prefix)} {self.checkpoint.ends}"

    def __call__(
        self, params: dict[str, Any], indices: Int[np.ndarray, " chosen"]
    ) -> dict[str, Float[np.ndarray, "chosen 1"]]:
        """Each mark of the answers that a model with these parameters generates.

        NaN where it leaves the finite numbers.
        """
        chosen = [self.examples[index] for index in indices]
        model = dataclasses.replace(self.checkpoint, params=params)
        names = generated.NAMES[self.marking.metric]
        given = stream(model, chosen, self.marking, batch_size=self.batch_size, prefix=self.prefix)
        try:
            texts = dict(given)
        except NotFiniteError:
            return {name: np.full((len(chosen), 1), np.nan, np.float32) for name in names}
        marked = [generated.marks(e, texts[i], self.marking) for i, e in enumerate(chosen)]
        return {name: np.array([[one[name]] for one in marked], np.float32) for name in names}


def text_of(checkpoint: Checkpoint, ids: Int[np.ndarray, " new"], marking: Marking) -> str:
    """The text of generated tokens, up to a row's end, a token that ends texts, and the first
    stop string.
    """
    last = (ENDED, *checkpoint.ends)
    kept = list(itertools.takewhile(lambda token: token not in last, map(int, ids)))
    return generated.cut(checkpoint.tokenizer.decode(kept), marking.stop)


def _padded(
    prompts: Sequence[Sequence[int]], most: int
) -> tuple[Int[np.ndarray, "batch length"], Bool[np.ndarray, "batch length"]]:
    """Prompts padded to one of few lengths, of at most `most` tokens.

    On the right, so that what they begin with in common stands in the same columns and is
    run once.
    """
    length = min(bucket_length(max(map(len, prompts))), most)
    tokens = np.zeros((len(prompts), length), np.int32)
    mask = np.zeros((len(prompts), length), bool)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
        mask[row, : len(prompt)] = True
    return tokens, mask
