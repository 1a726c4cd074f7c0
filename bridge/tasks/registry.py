"""Tasks by the text that names them in flags.

Our own:          indirect_object  country_facts  relations  relations:antonym  sums  products
Of papers:        counterfact:FILE  fever:DEV+TEST  gsm8k:FILE:shots=8:exemplars=FILE  ...
Of other files:   lre:FILE  bigbench:FILE  jsonl:FILE

Several files are joined by "+", in the order of the source; a file may be on the hub,
hub:OWNER/NAME/CONFIG/SPLIT, and a paper's task without a file is fetched from there. Options
follow, each after a colon.
"""

import dataclasses
import pathlib
import random
from collections.abc import Callable, Sequence

from truncated_weights.bridge.tasks import options
from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.eigenpruning import integers, super_glue
from truncated_weights.bridge.tasks.example import Encode, Example, Task, TaskError
from truncated_weights.bridge.tasks.files import hub_rows
from truncated_weights.bridge.tasks.general import lre, pairs, plain_jsonl
from truncated_weights.bridge.tasks.gsm8k import few_shot
from truncated_weights.bridge.tasks.laser import (
    bias_in_bios,
    big_bench,
    counterfact,
    fever,
    hotpotqa,
    truthfulqa,
)
from truncated_weights.bridge.tasks.own import arithmetic, country_facts, indirect_object, relations
from truncated_weights.bridge.tasks.pythia import capitals, known_facts, story_templates

NAMES = ("indirect_object", "country_facts", "relations", "sums", "products")
# Readers of a path, told whether a missing leading space is to be added.
READERS: dict[str, Callable[[str, bool], list[Example]]] = {
    "lre": lambda path, _: lre.read(path),
    "bigbench": lambda path, add_space: pairs.read(path, add_space=add_space),
    "jsonl": lambda path, add_space: plain_jsonl.read(path, add_space=add_space),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A task of a paper: what it tells of itself, and its reader.

    The reader takes the files in order and the tokenizer; its keywords are the options.
    """

    card: Card
    read: Callable[..., Task]

    def help(self) -> str:
        """The card, and the options with their defaults."""
        found = options.described(self.read)
        return self.card.text() + (f"\n  options   {found}" if found else "")


PUBLISHED: dict[str, Published] = {
    one.card.name: one
    for one in (
        Published(counterfact.CARD, counterfact.read),
        Published(hotpotqa.CARD, hotpotqa.read),
        Published(fever.CARD, fever.read),
        Published(bias_in_bios.GENDER, bias_in_bios.gender),
        Published(bias_in_bios.PROFESSION, bias_in_bios.profession),
        Published(truthfulqa.CARD, truthfulqa.read),
        Published(big_bench.EPISTEMIC, big_bench.epistemic),
        Published(big_bench.WIKIDATA, big_bench.wikidata),
        Published(big_bench.CAUSAL, big_bench.causal),
        Published(big_bench.WEB_OF_LIES, big_bench.web_of_lies),
        Published(integers.SUMS, integers.sums),
        Published(integers.PRODUCTS, integers.products),
        Published(super_glue.CB, super_glue.cb),
        Published(super_glue.COPA, super_glue.copa),
        Published(super_glue.RTE, super_glue.rte),
        Published(few_shot.CARD, few_shot.read),
        Published(story_templates.CARD, story_templates.read),
        Published(known_facts.CARD, known_facts.read),
        Published(capitals.CARD, capitals.read),
    )
}


def card_of(text: str) -> Card | None:
    """The card of the task that `text` names, None for tasks that are in no paper."""
    found = PUBLISHED.get(text.partition(":")[0])
    return found.card if found else None


def files(text: str) -> tuple[str, ...]:
    """The files that the task `text` names, those of its options included; none of the hub."""
    bare, given = options.split(text)
    names = _parts(bare.partition(":")[2])
    return tuple(name for name in (*names, *given.values()) if pathlib.Path(name).is_file())


def load(
    text: str,
    encode: Encode,
    *,
    count: int | None = None,
    seed: int = 0,
    add_space: bool = True,
) -> Task:
    """The task that `text` names, at most `count` examples of it (None: all, or 256 drawn).

    Of a file with more, `count` are chosen at random, those of one item together, and kept
    in the file's order. add_space is for readers of files whose continuations may lack the
    leading space. Raises TaskError for an unknown name or option, and for a file with its
    line and fault.
    """
    bare, given = options.split(text)
    name, colon, argument = bare.partition(":")
    drawn = 256 if count is None else count
    if name in PUBLISHED:
        published = PUBLISHED[name]
        found = options.keywords(published.read, given)
        return _chosen(
            published.read(_files(published.card, argument), encode, **found), count, seed
        )
    if given:
        raise TaskError(f"task {text!r}: {name} takes no options")
    if name in READERS:
        if not argument:
            raise TaskError(f"task {text!r}: expected {name}:FILE")
        parts = _parts(argument)
        examples = tuple(e for part in parts for e in READERS[name](part, add_space))
        stem = "+".join(pathlib.Path(part).stem for part in parts)
        return _chosen(Task(stem, examples), count, seed)
    if name == "relations":
        return relations.load(encode, relation=argument or None, count=count, seed=seed)
    if name not in NAMES:
        known = " ".join((*NAMES, *PUBLISHED, *(f"{reader}:FILE" for reader in READERS)))
        raise TaskError(f"task {text!r}: known are {known}")
    if colon:
        raise TaskError(f"task {text!r}: {name} takes nothing after a colon")
    if name == "indirect_object":
        return indirect_object.load(encode, count=drawn, seed=seed)
    if name == "country_facts":
        return country_facts.load(encode, count=count, seed=seed)
    operation: arithmetic.Operation = "sum" if name == "sums" else "product"
    return arithmetic.load(encode, operation=operation, count=drawn, seed=seed)


def _files(card: Card, argument: str) -> Sequence[pathlib.Path]:
    """The files that the argument names; without one, those on the hub."""
    if card.reads == "nothing":
        if argument:
            raise TaskError(f"task {card.name}: takes no file")
        return ()
    names = _parts(argument)
    if not argument:
        names = list(card.hub)
    if not names:
        raise TaskError(f"task {card.name}: expected {card.name}:FILE; it reads {card.reads}")
    found: list[pathlib.Path] = []
    for name in names:
        is_hub = name.startswith(hub_rows.PREFIX)
        found += hub_rows.fetch(name) if is_hub else [pathlib.Path(name)]
    return found


def _parts(argument: str) -> list[str]:
    """Files joined by "+"; a file whose own name has a plus is taken whole."""
    return [argument] if pathlib.Path(argument).is_file() else argument.split("+")


def _chosen(task: Task, count: int | None, seed: int) -> Task:
    total = len(task.examples)
    if count is None or count >= total:
        return task
    rng = random.Random(f"{task.name}/{seed}")
    members: dict[str, list[int]] = {}
    for index, example in enumerate(task.examples):
        members.setdefault(example.item or f"#{index}", []).append(index)
    if len(members) == total:
        kept = rng.sample(range(total), count)
    else:
        kept = []
        for item in rng.sample(sorted(members), len(members)):
            if len(kept) + len(members[item]) <= count:
                kept += members[item]
    if not kept:
        raise TaskError(f"{task.name}: {count} examples do not hold one whole item")
    report = f"{len(kept)} of {total} examples chosen at random"
    examples = tuple(task.examples[i] for i in sorted(kept))
    return dataclasses.replace(task, examples=examples, dropped=(*task.dropped, report))
