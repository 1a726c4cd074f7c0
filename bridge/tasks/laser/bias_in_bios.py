"""Bias in Bios: the gender, or the profession, of the person in a biography.

{"hard_text": "He has published ...", "profession": 21, "gender": 0}, professions as numbers
of the alphabetical list of 28, or as words.
"""

import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Marking, Task, TaskError, choose, words
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.bridge.tasks.laser.prompts import FULL_STOP_MISSING, stopped
from truncated_weights.bridge.tasks.laser.table import FIGURES

GENDERS = (" male", " female")
PROFESSIONS = tuple(
    name.replace("_", " ")
    for name in words(
        """
        accountant architect attorney chiropractor comedian composer dentist dietitian dj
        filmmaker interior_designer journalist model nurse painter paralegal pastor
        personal_trainer photographer physician poet professor psychologist rapper
        software_engineer surgeon teacher yoga_teacher
        """
    )
)
"""The professions of the data, by number."""

ASKED = tuple(
    f" {name}"
    for name in words("journalist poet composer model teacher architect painter professor")
)
"""The professions that are asked for, in the published order."""

_READS = "JSON lines, an array or Parquet with hard_text, profession, gender (no pickles)"
GENDER = Card(
    name="bios_gender",
    source="LabHC/bias_in_bios, dev",
    licence="MIT",
    reads=_READS,
    rows="39,642",
    asked="Consider the following text: {text}. Is the person in this text a male or female? "
    "The gender of this person is",
    marking=Marking("choice_summed"),
    protocol="laser",
    hub=("hub:LabHC/bias_in_bios/default/dev",),
    published=FIGURES["bios_gender"],
    faults=("the paper words the prompt otherwise ('The person is'); this is its code's",),
)
PROFESSION = Card(
    name="bios_profession",
    source="LabHC/bias_in_bios, dev, eight of 28 professions",
    licence="MIT",
    reads=_READS,
    rows="19,223",
    asked="Consider the following text: {text}. What is the profession of the person in this "
    "text? The profession of this person is",
    marking=Marking("choice_summed"),
    protocol="laser",
    hub=("hub:LabHC/bias_in_bios/default/dev",),
    published=FIGURES["bios_profession"],
)


def gender(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """Every biography, asked for the gender. Raises TaskError naming file, line and fault."""
    question = "Is the person in this text a male or female? The gender of this person is"
    examples = []
    for row in _all(paths):
        number = row.integer("gender")
        if number not in (0, 1):
            raise row.error(f"'gender' is {number}; expected 0 (male) or 1 (female)")
        text = _text(row)
        examples.append(choose(f"{text} {question}", GENDERS[number], GENDERS, item=text))
    return Task(GENDER.name, tuple(examples), (), GENDERS, marking=GENDER.marking)


def profession(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """The biographies of the eight professions asked for.

    Raises TaskError naming file, line and fault; also where there are none.
    """
    question = "What is the profession of the person in this text? The profession of this person is"
    found = _all(paths)
    examples = []
    for row in found:
        answer = f" {_profession(row)}"
        if answer in ASKED:
            text = _text(row)
            examples.append(choose(f"{text} {question}", answer, ASKED, item=text))
    if not examples:
        raise TaskError(f"{paths[0]}: none of the professions{','.join(ASKED)}")
    other = len(found) - len(examples)
    dropped = (f"{other} of {len(found)} people have other professions",) if other else ()
    return Task(PROFESSION.name, tuple(examples), dropped, ASKED, marking=PROFESSION.marking)


def _all(paths: Sequence[pathlib.Path]) -> list[Row]:
    return [row for path in paths for row in rows.read(path)]


def _text(row: Row) -> str:
    return f"Consider the following text: {stopped(row.text('hard_text'), *FULL_STOP_MISSING)}"


def _profession(row: Row) -> str:
    value = row.value.get("profession")
    if isinstance(value, str):
        name = value.replace("_", " ")
        if name not in PROFESSIONS:
            raise row.error(f"'profession' is {value!r}; it is none of the 28 of the data")
        return name
    number = row.integer("profession")
    if not 0 <= number < len(PROFESSIONS):
        raise row.error(f"'profession' is {number}; expected 0 to {len(PROFESSIONS) - 1}")
    return PROFESSIONS[number]
