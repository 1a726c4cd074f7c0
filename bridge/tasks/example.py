"""One prompt with its right answer and wrong ones: what every task is made of."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

Encode = Callable[[str], Sequence[int]]


class TaskError(ValueError):
    """A task, or a file of one, cannot be used as it stands; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A prompt, its answer and distractors, all as text.

    The text that a model should prefer is prompt + answer exactly: a space between them is
    the first character of the answer (and of each distractor), never the last of the prompt.
    group is what the example is an instance of (a relation, a template); covariates are
    numbers that describe it (the frequency of its fact).
    Raises TaskError for an empty prompt, a blank answer or distractor, or a distractor that
    is the answer.
    """

    prompt: str
    answer: str
    distractors: tuple[str, ...] = ()
    group: str = ""
    covariates: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise TaskError("prompt is empty")
        if self.prompt != self.prompt.rstrip():
            raise TaskError(f"prompt {self.prompt[-30:]!r} ends in space; the answer must begin so")
        for name, texts in (("answer", (self.answer,)), ("distractor", self.distractors)):
            if blank := [word for word in texts if not word.strip()]:
                raise TaskError(f"{name} {blank[0]!r} is blank")
        if self.answer in self.distractors:
            raise TaskError(f"answer {self.answer!r} is among the distractors")


@dataclasses.dataclass(frozen=True)
class Task:
    """A named list of examples; dropped says, a line each, what was left out and why."""

    name: str
    examples: tuple[Example, ...]
    dropped: tuple[str, ...] = ()


def spaced(
    prompt: str,
    answer: str,
    distractors: Sequence[str] = (),
    *,
    add_space: bool = True,
    group: str = "",
    covariates: Mapping[str, float] | None = None,
) -> Example:
    """An Example whose space stands in front of the answer, wherever the source put it.

    Space at the end of the prompt is moved to the front of answers that have none. With
    add_space an answer that then still lacks one gets it, as in sources that strip their
    continuations; without, it follows the prompt directly ("17*94=" -> "1598").
    Repeated distractors, and those equal to the answer, are left out.
    """
    bare = prompt.rstrip()
    space = prompt[len(bare) :] or (" " if add_space else "")

    def continued(text: str) -> str:
        return text if text[:1].isspace() else space + text

    right = continued(answer)
    wrong = dict.fromkeys(continued(text) for text in distractors)
    wrong.pop(right, None)
    return Example(bare, right, tuple(wrong), group, dict(covariates or {}))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in order: how lists are written here."""
    return tuple(text.split())


def single_tokens(
    candidates: Sequence[str], encode: Encode, *, what: str
) -> tuple[list[str], tuple[str, ...]]:
    """The words that are one token after a space, in order, and a report of the others.

    what names the words in the report: "names", "answers".
    """
    counts = {word: len(encode(f" {word}")) for word in dict.fromkeys(candidates)}
    long = {word: count for word, count in counts.items() if count != 1}
    kept = [word for word in counts if word not in long]
    if not long:
        return kept, ()
    told = ", ".join(f"{word} ({count})" for word, count in long.items())
    return kept, (f"{len(long)} of {len(counts)} {what} are not single tokens: {told}",)


def only_single_tokens(examples: Sequence[Example], encode: Encode, *, name: str) -> Task:
    """The task of those examples whose answer is one token, without longer distractors."""
    texts = dict.fromkeys(text for e in examples for text in (e.answer, *e.distractors))
    counts = {text: len(encode(text)) for text in texts}
    kept = tuple(
        dataclasses.replace(
            e, distractors=tuple(text for text in e.distractors if counts[text] == 1)
        )
        for e in examples
        if counts[e.answer] == 1
    )
    long = dict.fromkeys(e.answer.strip() for e in examples if counts[e.answer] != 1)
    if not long:
        return Task(name, kept)
    lost = len(examples) - len(kept)
    report = (
        f"{lost} of {len(examples)} examples dropped, their answers are not single tokens: "
        + ", ".join(long)
    )
    return Task(name, kept, (report,))
