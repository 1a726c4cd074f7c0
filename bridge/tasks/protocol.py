"""How a cut is chosen and reported: as each paper did, and as it should be.

A protocol is data: the programs read it, and print what it reproduces of a paper and what
not. `honest` is the default; `published` means the paper of the task's card.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from truncated_weights.bridge.tasks import split
from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Example
from truncated_weights.bridge.tasks.split import Sides

NAMES = ("honest", "published")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Split, candidates and choice of a search, and the faults that are kept or left out.

    division    first: the first share in file order; rows: random rows; items: random items
    validation  the share of examples for choosing
    rhos        the fractions of rank of the published search, empty where it has none
    matrices    the matrices of the published search, likewise
    rule        the published search, as a rule of truncation/rules
    bos         whether the token that begins a text stands in front whatever the program says
    full_competes  whether the unedited model is a candidate
    kept        faults of the paper that change no figure here, or that are reproduced
    left_out    faults of the paper that are not reproduced, and what is done instead
    """

    name: str
    source: str
    division: Literal["first", "rows", "items"]
    validation: float = 0.2
    rhos: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    rule: str = ""
    bos: bool = False
    full_competes: bool = True
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def split(
        self, examples: Sequence[Example], *, validation: float | None = None, seed: int = 0
    ) -> Sides:
        """Indices for choosing and for testing; TaskError where a side would be empty."""
        share = self.validation if validation is None else validation
        if self.division == "first":
            return split.first(examples, validation=share)
        if self.division == "rows":
            return split.random_rows(examples, validation=share, seed=seed)
        return split.random_items(examples, validation=share, seed=seed)

    def lines(
        self, *, rhos: Sequence[str] = (), matrices: Sequence[str] = (), rule: str = ""
    ) -> list[str]:
        """What is to be printed beside results made under it.

        rhos, matrices and rule are those of the search, told where they are not the paper's; where
        there is a gate it is what LASER calls fc_in.
        """
        matrices = ["fc_in" if name == "fc_gate" else name for name in matrices]
        found = [f"protocol {self.name}: {self.source}"]
        for label, own, theirs in (
            ("fractions of rank", rhos, self.rhos),
            ("matrices", matrices, self.matrices),
            ("search", [rule] if rule else [], [self.rule] if self.rule else []),
        ):
            if own and theirs and set(own) != set(theirs):
                differs = f"{', '.join(own)} where the paper has {', '.join(theirs)}"
                found.append(f"  not as published: {label} {differs}")
        found += [f"  as published: {fault}" for fault in self.kept]
        found += [f"  not as published: {fault}" for fault in self.left_out]
        return found


HONEST = Protocol(
    "honest",
    "whole items at random by seed, chosen on validation, tested once, the unedited model a "
    "candidate, intervals from resampling",
    "items",
)
LASER = Protocol(
    "published",
    "LASER (arXiv 2312.13558): the first 20 % in file order, accuracy, then log loss",
    "first",
    rhos=("0.9", "0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0.01"),
    matrices=("fc_in", "fc_out"),
    rule="grid",
    full_competes=False,
    kept=(
        "paraphrases of a fact and options of a question stand on both sides of the split",
        "the unedited model is no candidate: the best cut is taken though it be worse",
    ),
    left_out=(
        "most of its scripts score every row and never split; here the test rows are held out",
        "its decomposition is randomised and unseeded; here it is exact",
        "'contains' is asked of prompt and answer together; it stands beside the figure of "
        "the answer alone",
    ),
)
EIGENPRUNING = Protocol(
    "published",
    "eigenpruning (arXiv 2404.03147): 80 % of the rows at random to score directions, the "
    "token that begins a text in front",
    "rows",
    validation=0.8,
    rule="eigenprune_pooled",
    bos=True,
    full_competes=False,
    kept=(
        "2 + 3 may be scored on and 3 + 2 tested",
        "where all examples agree (the first token) a direction has effect zero, so no largest "
        "effect is below it",
    ),
    left_out=(
        "its split is torch's of seed 42, another one is drawn here",
        "its counterfactual is a roll of the batch, zero in batches of one; here another example",
        "its inputs are those in front of the norm, its bias the last batch's sum over positions; "
        "here what the matrix reads, and the mean",
        "it prints no figure of the unpruned model; here it stands beside",
    ),
)
FEW_SHOT = dataclasses.replace(
    HONEST,
    name="published",
    source="few-shot reasoning of arXiv 2406.03068: cuts are not told, so they are chosen "
    "honestly; prompts and matches are the published ones",
)
_PUBLISHED = {"laser": LASER, "eigenpruning": EIGENPRUNING, "few_shot": FEW_SHOT}


def of(name: str, card: Card | None, paper: str = "") -> Protocol:
    """The protocol of this name for a task with this card (None: a task of no paper).

    paper: whose protocol is meant where that is not the card's: laser or eigenpruning.
    Raises ValueError for an unknown name, and where no paper has the task.
    """
    if name not in NAMES:
        raise ValueError(f"protocol {name!r}: expected {' or '.join(NAMES)}")
    if name == "honest":
        return HONEST
    whose = paper or (card.protocol if card else "none")
    if whose not in _PUBLISHED:
        name = "the task" if card is None else card.name
        raise ValueError(f"protocol published: {name} is asked by no paper's protocol")
    return _PUBLISHED[whose]
