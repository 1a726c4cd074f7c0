"""Search in one call: bridge.search(checkpoint, "indirect_object", rule="grid")."""

from collections.abc import Sequence
from typing import Any

from truncated_weights.bridge import surgery, tasks
from truncated_weights.bridge.checkpoint import Checkpoint
from truncated_weights.bridge.encoding import Encode, Encoded, encode_examples
from truncated_weights.bridge.families import laser
from truncated_weights.truncation import rules
from truncated_weights.truncation.notation import LASER_RHOS, candidates
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.problem import Outcome, SearchProblem


def search(
    checkpoint: Checkpoint,
    task: str | Encoded,
    *,
    rule: str = "grid",
    matrices: Sequence[str] = ("fc_in", "fc_out"),
    layers: Sequence[int] | None = None,
    rhos: Sequence[str] = LASER_RHOS,
    objective: str = "accuracy",
    validation: float = 0.2,
    count: int | None = None,
    encode: Encode | None = None,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Outcome:
    """What a rule of truncation/rules would cut of a checkpoint to do better at a task.

    task is a name as in tasks/registry.py (then `encode`, by default the tokenizer beside the
    checkpoint, with what that puts around a text, makes tokens of at most `count` examples), or
    examples encoded already. Every matrix named (LASER's names as "laser:fc_up"), of every
    layer or of `layers` (-1 the last), is tried at every rho. A random share `validation` of
    the examples decides; the rest see the choice once, and the outcome's rows hold both.
    options are the rule's own, as order="last_first" for greedy; those of surgery.scorer
    (memory, together, cache ...) go to it.

        outcome = bridge.search(checkpoint, "indirect_object", rule="greedy", objective="loss")
        outcome.best, outcome.warning
        params = outcome.choice.params(Decompositions(matrices, checkpoint.params))
    """
    config = checkpoint.config
    encoded = task if isinstance(task, Encoded) else _encoded(checkpoint, task, encode, count, seed)
    chosen, held_out = statistics.split(len(encoded), validation=validation, seed=seed)
    levels = range(config.num_layers) if layers is None else layers
    own = {k: v for k, v in options.items() if k in rules.options(rule)}
    sizes = {k: v for k, v in options.items() if k not in own}
    scorer = surgery.scorer(checkpoint, encoded, progress=progress, **sizes)
    keys = [laser.translate(f"{layer}.{name}", config) for layer in levels for name in matrices]
    problem = SearchProblem(scorer, tuple(candidates(keys, rhos)), chosen, held_out)
    return rules.run(rule, problem, objective=objective, seed=seed, **own)


def _encoded(
    checkpoint: Checkpoint, task: str, encode: Encode | None, count: int | None, seed: int
) -> Encoded:
    config = checkpoint.config
    limit, around = config.vocab_size, {}
    if encode is None:
        encode = words = checkpoint.tokenizer
        limit, around = min(words.size, limit), words.around(config.masked)
    elif config.masked:
        raise ValueError("encode: a masked model needs its tokenizer, or examples encoded already")
    found = tasks.load(task, encode, count=count, seed=seed)
    return encode_examples(
        found.examples, encode, num_tokens=limit, max_length=config.max_positions, **around
    )
