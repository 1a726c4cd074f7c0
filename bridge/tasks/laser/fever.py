"""FEVER: is a claim true or false?

{"claim": "Telemundo is an English-language television network.", "label": "REFUTES"}

Claims without enough information are left out, then those that the file labels both ways,
then repetitions, which leaves each claim where it first stood.
"""

import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Example, Marking, Task, TaskError, choose
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.bridge.tasks.laser.prompts import FULL_STOP_MISSING, TRUE_FALSE, stopped
from truncated_weights.bridge.tasks.laser.table import FIGURES

CARD = Card(
    name="fever",
    source="FEVER v1.0, paper_dev then paper_test",
    licence="CC BY-SA 3.0",
    reads="paper_dev and paper_test, JSON lines or Parquet with claim and label",
    rows="13,086, of which 6,510 are of paper_dev",
    asked="Consider the following claim: {claim}. Is this claim true or false. The claim is",
    marking=Marking("choice_summed"),
    protocol="laser",
    published=FIGURES["fever"],
    faults=("the best constant answer gives 50.05 % of paper_dev: 50.0 and 50.2 are chance",),
)
_LABELS = {"SUPPORTS": " true", "REFUTES": " false", 1: " true", 0: " false"}
_UNDECIDED = ("NOT ENOUGH INFO", 2, -1)


def prompt_of(claim: str) -> str:
    """The published prompt; its second sentence does end in a full stop."""
    claim = stopped(claim, *FULL_STOP_MISSING)
    return f"Consider the following claim: {claim} Is this claim true or false. The claim is"


def read(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """The claims of the files, each file filtered on its own, one after the other.

    Raises TaskError naming file, line and fault; also where no claim is left.
    """
    examples: list[Example] = []
    undecided = conflicting = repeated = total = 0
    for path in paths:
        labels: dict[str, list[str]] = {}
        found = rows.read(path)
        total += len(found)
        for row in found:
            label = _label(row)
            if label is None:
                undecided += 1
            else:
                labels.setdefault(row.text("claim"), []).append(label)
        for claim, given in labels.items():
            if len(set(given)) > 1:
                conflicting += len(given)
                continue
            repeated += len(given) - 1
            examples.append(choose(prompt_of(claim), given[0], TRUE_FALSE, item=claim))
    if not examples:
        raise TaskError(f"{paths[0]}: no claim that is supported or refuted")
    dropped = [
        f"{count} of {total} claims {why}"
        for count, why in (
            (undecided, "without enough information"),
            (conflicting, "labelled both ways"),
            (repeated, "repeated"),
        )
        if count
    ]
    return Task(CARD.name, tuple(examples), tuple(dropped), TRUE_FALSE, marking=CARD.marking)


def _label(row: Row) -> str | None:
    """The answer, or None where the label says that there is not enough information."""
    if not row.has("label"):
        raise row.error("no field 'label'")
    value = row.value["label"]
    if value in _UNDECIDED:
        return None
    # True and False equal 1 and 0 as keys, but are no labels of FEVER.
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in _LABELS:
        raise row.error(f"'label' is {value!r}; expected SUPPORTS, REFUTES or NOT ENOUGH INFO")
    return _LABELS[value]
