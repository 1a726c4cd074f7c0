"""Tasks by the text that names them in flags.

indirect_object  country_facts  relations  relations:antonym  sums  products
counterfact:FILE  lre:FILE  bigbench:FILE  jsonl:FILE
"""

import pathlib
import random
from collections.abc import Callable

from bridge.tasks import (
    arithmetic,
    bigbench,
    counterfact,
    country_facts,
    indirect_object,
    lre,
    plain_jsonl,
    relations,
)
from bridge.tasks.example import Encode, Example, Task, TaskError

NAMES = ("indirect_object", "country_facts", "relations", "sums", "products")
# Readers of a path, told whether a missing leading space is to be added.
READERS: dict[str, Callable[[str, bool], list[Example]]] = {
    "counterfact": lambda path, _: counterfact.read(path),
    "lre": lambda path, _: lre.read(path),
    "bigbench": lambda path, add_space: bigbench.read(path, add_space=add_space),
    "jsonl": lambda path, add_space: plain_jsonl.read(path, add_space=add_space),
}


def load(
    text: str,
    encode: Encode,
    *,
    count: int | None = None,
    seed: int = 0,
    add_space: bool = True,
) -> Task:
    """The task that `text` names, at most `count` examples of it (None: all, or 256 drawn).

    Of a file with more, `count` are chosen at random and kept in the file's order.
    add_space is for readers of files whose continuations may lack the leading space.
    Raises TaskError for an unknown name, and for a file with its line and fault.
    """
    name, colon, argument = text.partition(":")
    drawn = 256 if count is None else count
    if name in READERS:
        if not argument:
            raise TaskError(f"task {text!r}: expected {name}:FILE")
        examples = tuple(READERS[name](argument, add_space))
        return _chosen(Task(pathlib.Path(argument).stem, examples), count, seed)
    if name == "relations":
        return relations.load(encode, relation=argument or None, count=count, seed=seed)
    if name not in NAMES:
        known = " ".join((*NAMES, *(f"{reader}:FILE" for reader in READERS)))
        raise TaskError(f"task {text!r}: known are {known}")
    if colon:
        raise TaskError(f"task {text!r}: {name} takes nothing after a colon")
    if name == "indirect_object":
        return indirect_object.load(encode, count=drawn, seed=seed)
    if name == "country_facts":
        return country_facts.load(encode, count=count, seed=seed)
    operation: arithmetic.Operation = "sum" if name == "sums" else "product"
    return arithmetic.load(encode, operation=operation, count=drawn, seed=seed)


def _chosen(task: Task, count: int | None, seed: int) -> Task:
    total = len(task.examples)
    if count is None or count >= total:
        return task
    kept = sorted(random.Random(f"{task.name}/{seed}").sample(range(total), count))
    report = f"{count} of {total} examples chosen at random"
    return Task(task.name, tuple(task.examples[i] for i in kept), (*task.dropped, report))
