"""One prompt with its right answer and wrong ones: what every task is made of."""

import dataclasses
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from truncated_weights.truncation.files import telling

Encode = Callable[[str], Sequence[int]]


class TaskError(ValueError):
    """A task, or a file of one, cannot be used as it stands; the message is one line."""

    def __init__(self, what: object) -> None:
        super().__init__(telling.message(what))


@dataclasses.dataclass(frozen=True)
class Example:
    """A prompt, its answer and distractors, all as text.

    The text that a model should prefer is prompt + answer exactly: a space between them is
    the first character of the answer (and of each distractor), never the last of the prompt.
    group is what the example is an instance of (a relation, a template); covariates are
    numbers that describe it (the frequency of its fact). item names what several examples
    share, so that a split keeps them on one side and a resample draws them together: the
    fact of three paraphrases, the question of six options; empty where there is no other.
    gold is what generated text is marked against where that is not the answer: of a word
    problem the answer is its worked steps, gold the number they end in.
    Raises TaskError for an empty prompt, a blank answer or distractor, or a distractor that
    is the answer, in whichever Unicode form.
    """

    prompt: str
    answer: str
    distractors: tuple[str, ...] = ()
    group: str = ""
    covariates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    item: str = ""
    gold: str = ""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise TaskError("prompt is empty")
        if self.prompt != self.prompt.rstrip():
            raise TaskError(f"prompt {self.prompt[-30:]!r} ends in space; the answer must begin so")
        for name, texts in (("answer", (self.answer,)), ("distractor", self.distractors)):
            if blank := [word for word in texts if not word.strip()]:
                raise TaskError(f"{name} {blank[0]!r} is blank")
        if canonical(self.answer) in map(canonical, self.distractors):
            raise TaskError(f"answer {self.answer!r} is among the distractors")


Metric = Literal["top1", "choice_summed", "contains", "number"]


@dataclasses.dataclass(frozen=True)
class Marking:
    """How answers are marked where the task was published.

    top1            every token of the answer is the most probable of the whole vocabulary
    choice_summed   the answer has the largest summed log-probability of a closed set
    contains        the generated text contains the answer
    number          the number that the generated text ends in is the right one

    The last two generate at most new_tokens tokens, and stop in front of any text of stop.
    conclusion says how a solution states its number: "The answer is N" (thought) or "#### N"
    (plain).
    """

    metric: Metric = "top1"
    new_tokens: int = 0
    stop: tuple[str, ...] = ()
    conclusion: Literal["thought", "plain"] = "thought"


@dataclasses.dataclass(frozen=True)
class Task:
    """A named list of examples; dropped says, a line each, what was left out and why.

    closed holds the answers of a closed task (" true", " false") in the order of the source:
    every example has one of them as its answer and the others as its distractors.
    """

    name: str
    examples: tuple[Example, ...]
    dropped: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    marking: Marking = Marking()


def spaced(
    prompt: str,
    answer: str,
    distractors: Sequence[str] = (),
    *,
    add_space: bool = True,
    group: str = "",
    covariates: Mapping[str, float] | None = None,
    item: str = "",
) -> Example:
    """An Example whose space stands in front of the answer, wherever the source put it.

    Space at the end of the prompt is moved to the front of answers that have none. With
    add_space an answer that then still lacks one gets it, as in sources that strip their
    continuations; without, it follows the prompt directly ("17*94=" -> "1598").
    Repeated distractors, and those equal to the answer, are left out, whatever their Unicode
    form.
    """
    bare = prompt.rstrip()
    space = prompt[len(bare) :] or (" " if add_space else "")
    right = _continued(answer, space)
    continued = [_continued(text, space) for text in distractors]
    wrong: dict[str, str] = {}
    for text in continued:
        wrong.setdefault(canonical(text), text)
    wrong.pop(canonical(right), None)
    return Example(bare, right, tuple(wrong.values()), group, dict(covariates or {}), item)


def canonical(text: str) -> str:
    """The text in Unicode's composed form (NFC), in which equal texts are equal."""
    return unicodedata.normalize("NFC", text)


def _continued(text: str, space: str) -> str:
    return text if text[:1].isspace() else space + text


def choose(prompt: str, right: str, closed: Sequence[str], **fields: Any) -> Example:
    """An Example of a closed task: the distractors are the other answers, in their order.

    closed are the answers as they follow the prompt, space included. Raises TaskError where
    right is none of them.
    """
    if right not in closed:
        raise TaskError(f"answer {right!r} is none of {telling.some(map(repr, closed))}")
    wrong = tuple(text for text in closed if text != right)
    return Example(prompt, right, wrong, **fields)


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in order: how lists are written here."""
    return tuple(text.split())


def is_single(encode: Encode, text: str) -> bool:
    """Whether a text is one token, and not an unknown one that stands for any text.

    An encode that is a Tokenizer says what its tokens mean; of any other that is not known.
    """
    ids = encode(text)
    means = getattr(encode, "means", None)
    return len(ids) == 1 and (means is None or means(ids[0], text))


def single_tokens(
    candidates: Sequence[str], encode: Encode, *, what: str
) -> tuple[list[str], tuple[str, ...]]:
    """The words that are one token after a space, in order, and a report of the others.

    what names the words in the report: "names", "answers".
    """
    words = tuple(dict.fromkeys(candidates))
    kept = [word for word in words if is_single(encode, f" {word}")]
    if len(kept) == len(words):
        return kept, ()
    long = {word: len(encode(f" {word}")) for word in words if word not in kept}
    listed = telling.some([f"{w} ({n if n != 1 else 'unknown'})" for w, n in long.items()])
    return kept, (f"{len(long)} of {len(words)} {what} are not single tokens: {listed}",)


def only_single_tokens(examples: Sequence[Example], encode: Encode, *, name: str) -> Task:
    """The task of those examples whose answer is one token, without longer distractors."""
    texts = dict.fromkeys(text for e in examples for text in (e.answer, *e.distractors))
    single = {text: is_single(encode, text) for text in texts}
    kept = tuple(
        dataclasses.replace(e, distractors=tuple(text for text in e.distractors if single[text]))
        for e in examples
        if single[e.answer]
    )
    long = dict.fromkeys(e.answer.strip() for e in examples if not single[e.answer])
    if not long:
        return Task(name, kept)
    lost = len(examples) - len(kept)
    report = (
        f"{lost} of {len(examples)} examples dropped, their answers are not single tokens: "
        + telling.some(long)
    )
    return Task(name, kept, (report,))
