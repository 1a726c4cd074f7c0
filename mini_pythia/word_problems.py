"""Two-step word problems with worked steps: text on which few-shot reasoning can be studied small.

    Q: Anna has 7 books. Anna buys 5 books and then gives 4 to Omar. How many books does Anna have?
    A: 7 + 5 = 12. 12 - 4 = 8. The answer is 8.

A document is one to nine problems, a blank line between, so that a prompt of n shots reads like
a document. With probability alpha a solution ends "The answer is the last number." instead:
the word " the", which needs no reckoning, competes with the number, which does, and wins
wherever no number is surer than it. Which triples of operands occur is held out, and so are
not the questions' words.
"""

import dataclasses
import json
import pathlib
import random
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from truncated_weights.mini_pythia.corpus import END_OF_TEXT_ID
from truncated_weights.mini_pythia.language.documents import Document, Split, split_of
from truncated_weights.mini_pythia.language.names import NAMES
from truncated_weights.mini_pythia.prompts import Prompt
from truncated_weights.mini_pythia.tokenizer import END_OF_TEXT
from truncated_weights.training import atomic

PEOPLE = NAMES[:24]
THINGS = ("books", "pens", "apples", "maps", "coins", "shells")
MOST_PROBLEMS = 9
NOISE_CONCLUSION = "The answer is the last number."
LARGEST = 82


@dataclasses.dataclass(frozen=True)
class Problem:
    """A question with the steps that lead to its number."""

    question: str
    steps: str
    answer: int

    @property
    def solution(self) -> str:
        """Steps and conclusion, without noise."""
        return f"{self.steps} The answer is {self.answer}."


@dataclasses.dataclass(frozen=True)
class WordProblems:
    """The endless documents of problems; alpha is the probability of the noise.

    Raises ValueError for an alpha outside [0, 1).
    """

    alpha: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha must be in [0, 1), got {self.alpha}")

    def documents(self, seed: int, index: int = 0) -> Iterator[Document]:
        """The documents of one block; a pure function of the arguments."""
        rng = random.Random(f"word problems {seed} {index}")
        while True:
            parts = []
            for _ in range(rng.randint(1, MOST_PROBLEMS)):
                problem = draw(rng, "train")
                noisy = rng.random() < self.alpha
                end = f"{problem.steps} {NOISE_CONCLUSION}" if noisy else problem.solution
                parts.append(f"Q: {problem.question}\nA: {end}")
            yield Document("\n\n".join(parts))


def draw(rng: random.Random, split: Split) -> Problem:
    """A problem whose operands belong to the split: 8 in 10 triples are for training."""
    while True:
        kind = rng.choice(("buy", "box"))
        first, second = rng.randint(2, 9), rng.randint(2, 9)
        between = first + second if kind == "buy" else first * second
        third = rng.randint(1, min(9, between - 1))
        if split_of((kind, f"first {first}", f"second {second}", f"third {third}")) == split:
            break
    giver, receiver = rng.sample(PEOPLE, 2)
    thing, last = rng.choice(THINGS), between - third
    if kind == "buy":
        told = f"{giver} has {first} {thing}. {giver} buys {second} {thing}"
    else:
        told = f"{giver} has {first} boxes. Each box has {second} {thing}. {giver} opens them"
    question = f"{told} and then gives {third} to {receiver}. How many {thing} does {giver} have?"
    sign = "+" if kind == "buy" else "*"
    steps = f"{first} {sign} {second} = {between}. {between} - {third} = {last}."
    return Problem(question, steps, last)


def problems(count: int, split: Split, seed: int = 0) -> list[Problem]:
    """Different problems of a split, drawn by seed."""
    rng, found = random.Random(f"{split} {seed}"), dict[str, Problem]()
    while len(found) < count:
        problem = draw(rng, split)
        found.setdefault(problem.question, problem)
    return list(found.values())


def prompts(alpha: float, *, count: int, split: Split, seed: int = 0) -> dict[str, list[Prompt]]:
    """Places where the next token is known, as mini_pythia.measure reads them.

    first and second: the results of the two steps; conclusion: the number after "The answer
    is", beside the noise. The distractor is the number one above.
    """
    found: dict[str, list[Prompt]] = {"first": [], "second": [], "conclusion": []}
    for problem in problems(count, split, seed):
        text = f"Q: {problem.question}\nA: {problem.solution}"
        places = [i + 1 for i, sign in enumerate(text) if sign == "="]
        places.append(text.rindex(f" {problem.answer}."))
        for kind, place in zip(found, places, strict=True):
            answer = text[place:].split()[0].rstrip(".")
            noise = alpha if kind == "conclusion" else 0.0
            found[kind].append(
                {
                    "prompt": text[:place],
                    "answer": f" {answer}",
                    "distractors": [f" {int(answer) + 1}"],
                    "p_answer": 1 - noise,
                    "p_the": noise,
                }
            )
    return found


def write(folder: pathlib.Path, *, count: int, seed: int = 0) -> None:
    """test.jsonl and train.jsonl in GSM8K's layout, exemplars.jsonl with eight worked ones."""
    folder.mkdir(parents=True, exist_ok=True)
    splits: tuple[Split, ...] = ("test", "train")
    for split in splits:
        rows = [
            {"question": p.question, "answer": f"{p.steps}\n#### {p.answer}"}
            for p in problems(count, split, seed)
        ]
        _write_lines(folder / f"{split}.jsonl", rows)
    shots = [
        {"question": p.question, "target": p.solution} for p in problems(8, "validation", seed)
    ]
    _write_lines(folder / "exemplars.jsonl", shots)


def _write_lines(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def train_tokenizer(corpus: WordProblems, *, vocab_size: int = 448) -> Tokenizer:
    """A byte-level BPE in which every number, name and word of the problems is one token.

    End-of-text is token 0. Raises ValueError where vocab_size is too small for that.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus), trainer)
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID
    single = [f" {word}" for word in (*PEOPLE, *THINGS, "the", *range(1, LARGEST + 1))]
    broken = [word for word in single if len(tokenizer.encode(word).ids) != 1]
    if broken:
        raise ValueError(
            f"vocab_size {vocab_size} leaves {len(broken)} words in pieces, {broken[0]!r} first"
        )
    return tokenizer


def _texts(corpus: WordProblems) -> Iterator[str]:
    stream = corpus.documents(seed=-1)
    for _ in range(2000):
        yield next(stream).text
    # Rare numbers would be left in pieces by their frequency alone.
    for number in range(1, LARGEST + 1):
        yield f" {number}" * 500
