"""One task asked: the search, what the choice does to the answers, and what they are worth."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import answers, encoding, scoring
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.experiments.run.program import user_errors
from truncated_weights.experiments.truncate_model import by_level, components, worth
from truncated_weights.experiments.truncate_model.plan import (
    Plan,
    answers_of,
    generates,
    objective_of,
)
from truncated_weights.experiments.truncate_model.worth import Worth
from truncated_weights.truncation import ablation, rules
from truncated_weights.truncation.address import Params
from truncated_weights.truncation.search.problem import NO_CHOICE, Outcome, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

PARTS_EXAMPLES = 256
PREDICTED = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What one task showed.

    shown is the intervention, or pruning, that is looked into; chosen the same, or "full"
    where it does not beat the whole model on validation.
    """

    outcome: Outcome
    shown: str
    chosen: str
    params: Params
    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]
    parts: list[dict[str, Any]]
    components: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    flips: list[dict[str, Any]]


def ask(plan: Plan, one: Questions, scorer: Scorer) -> Result:
    """Search, or compare the interventions given, and look into the choice."""
    config, test = plan.config, one.test
    objective = objective_of(config, one, plan.architecture)
    outcome = search(
        plan, SearchProblem(scorer, plan.interventions, one.validation, test), objective
    )
    nearest = outcome.nearest
    params = nearest.params(scorer.decompositions)
    before, after = scorer.full(test), scorer.of_params(params, test)
    parts: list[dict[str, Any]] = []
    if nearest.intervention is not None:
        for row in ablation.report(scorer, nearest.intervention, test[:PARTS_EXAMPLES]):
            tokens = [plan.words.decode([token]) for token in row.pop("top_classes")]
            parts.append(row | {"top_tokens": tokens})
    told = components.removed(scorer, plan.architecture, nearest, test[:PARTS_EXAMPLES], plan.words)
    bootstrap = {"seed": config.seed, "samples": config.bootstrap}
    flips = by_level.flips(one, before, after, scorer.weights(test), **bootstrap)
    said = predictions(plan, one, scorer, params, before, after)
    taken = outcome.improves or not (one.protocol.full_competes or nearest is NO_CHOICE)
    chosen = nearest.name if taken else "full"
    return Result(outcome, nearest.name, chosen, params, before, after, parts, told, said, flips)


def search(plan: Plan, problem: SearchProblem, objective: str) -> Outcome:
    """The rule that is asked for, with its options; --interventions are a grid tested whole."""
    config = plan.config
    rule = "grid" if config.search == "none" else config.search
    options = {
        "test_all": config.search == "none",
        "order": config.order,
        "fraction": config.fraction,
        "fractions": config.removed,
    }
    common = {"objective": objective, "seed": config.seed, "samples": config.bootstrap}
    own = {name: value for name, value in options.items() if name in rules.options(rule)}
    with user_errors():
        return rules.run(rule, problem, **common, **own)


def find_worth(plan: Plan, one: Questions, checkpoint: bridge.Checkpoint, result: Result) -> Worth:
    """What the test answers of the full model and of the cut are worth."""
    config, tested = plan.config, encoding.select(one.encoded, one.test)
    bootstrap = {"seed": config.seed, "samples": config.bootstrap}
    models = {
        "full": checkpoint,
        result.shown: dataclasses.replace(checkpoint, params=result.params),
    }
    before, after = (
        {name: values[:, 0] for name, values in scores.items()}
        for scores in (result.before, result.after)
    )
    found = worth.of_items(tested, before, after, **bootstrap)
    if one.closed and config.max_distractors >= len(one.closed) - 1:
        memory = int(config.memory_gb * model_setup.GIGABYTE)
        found += worth.of_choices(tested, one.closed, models, memory=memory, **bootstrap)
    if most := answers_of(config, one, checkpoint.config):
        prefix = plan.words.prefix(config.bos or one.protocol.bos)
        found += worth.of_texts(tested, one.marking, models, most=most, prefix=prefix, **bootstrap)
    return found


def marks(plan: Plan, one: Questions, checkpoint: bridge.Checkpoint) -> answers.Marks | None:
    """What marks the generated answers of every candidate, where candidates have to give some."""
    if not generates(plan.config, one, plan.architecture):
        return None
    prefix = plan.words.prefix(plan.config.bos or one.protocol.bos)
    return answers.Marks(checkpoint, one.encoded.examples, one.marking, prefix)


def predictions(
    plan: Plan,
    one: Questions,
    scorer: Scorer,
    params: Params,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """What the model says after each test prompt, before and after the cut."""
    config, tested = plan.config, encoding.select(one.encoded, one.test)
    rows: list[dict[str, Any]] = [
        {"prompt": e.prompt, "answer": e.answer, "group": e.group} for e in tested.examples
    ]
    for label, weights, scores in (("full", scorer.params, before), ("cut", params, after)):
        ids, values = scoring.top_tokens(
            weights,
            plan.architecture,
            tested,
            PREDICTED,
            memory=int(config.memory_gb * model_setup.GIGABYTE),
        )
        for i, row in enumerate(rows):
            row |= {f"{label}_{name}": float(scores[name][i, 0]) for name in ("p_answer", "rank")}
            for place in range(PREDICTED):
                row[f"{label}_top{place + 1}"] = plan.words.decode([int(ids[i, place])])
                row[f"{label}_p{place + 1}"] = float(values[i, place])
    return rows
