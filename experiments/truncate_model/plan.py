"""What the flags of a truncation ask for, checked before weights are read."""

import dataclasses
import os
import re
from pathlib import Path

from truncated_weights.bridge import tasks
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.tasks.metrics import generated
from truncated_weights.bridge.tasks.protocol import Protocol
from truncated_weights.bridge.tokenizer import Tokenizer
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.truncate_model.settings import TruncateModel
from truncated_weights.truncation import notation
from truncated_weights.truncation.notation import Intervention


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: TruncateModel
    architecture: Config
    words: Tokenizer
    questions: tuple[Questions, ...]
    interventions: tuple[Intervention, ...]


def require_place(config: TruncateModel) -> None:
    """UserError where --save could not be written, found out before any work."""
    if not config.save:
        return
    folder = Path(config.save)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--save={folder} exists already; choose another directory")
    for parent in folder.parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise UserError(f"--save={folder} cannot be written: {parent} is in the way")
            return


def make_plan(config: TruncateModel) -> Plan:
    """Read tasks and check every name; UserError says what cannot be."""
    if (config.search == "none") != bool(config.interventions):
        raise UserError("give either --interventions or --search, and not both")
    if config.test_tasks and len(config.test_tasks) != len(config.tasks):
        raise UserError(f"--test_tasks names {len(config.test_tasks)} of {len(config.tasks)} tasks")
    if config.protocol == "both" and (config.search == "none" or config.test_tasks):
        raise UserError("--protocol=both compares searches that divide one file; see --search")
    if config.paper and config.protocol == "honest":
        raise UserError("--paper says whose protocol --protocol=published or both is")
    if config.save and len(config.tasks) > 1:
        raise UserError("--save wants a single task: another task may choose another cut")
    if config.save_dtype and not config.save:
        raise UserError("--save_dtype is about --save")
    if config.factored and (not config.save or "prun" in config.search):
        raise UserError("--factored is about --save, and not for prunings")
    architecture = model_setup.read_architecture(config.model, config.ignore_keys)
    layers = config.layers
    if config.late_half:
        if layers:
            raise UserError("--late_half and --layers both say which layers may be cut")
        layers = tuple(range(architecture.num_layers // 2, architecture.num_layers))
    keys = model_setup.parse_keys(config.matrices, layers, architecture)
    if config.interventions:
        chosen = model_setup.parse_interventions(config.interventions, architecture)
    else:
        with user_errors():
            chosen = tuple(notation.candidates(keys, config.rhos))
    words = model_setup.read_tokenizer(config, config.model)
    questions = tuple(
        model_setup.read_questions(
            config,
            architecture,
            words,
            task,
            test_task=test,
            validation=config.validation,
            protocol=config.protocol,
            paper=config.paper,
            counts=config.counts,
        )
        for task, test in zip(
            config.tasks, config.test_tasks or ("",) * len(config.tasks), strict=True
        )
    )
    for one in questions:
        needs_rivals = config.objective in ("logit_difference", "choice", "choice_summed")
        if needs_rivals and not one.encoded.vocabulary.rivals:
            raise UserError(
                f"--objective={config.objective} needs distractors; {one.name} has examples without"
            )
        if config.objective == "contains" and one.marking.metric != "contains":
            raise UserError(f"--objective=contains: answers of {one.name} are not marked so")
        if config.objective == "contains" and architecture.masked:
            raise UserError(
                f"--objective=contains: a {architecture.family} fills masks in, it says nothing"
            )
        if answers_of(config, one, architecture):
            longest = int(one.encoded.batch.at[one.test, 0, 0].max()) + 1
            if longest + one.marking.new_tokens > architecture.max_positions:
                raise UserError(
                    f"{one.name}: a prompt of {longest} tokens leaves no room for an answer of "
                    f"{one.marking.new_tokens}; --answers=0 generates none"
                )
    if len({one.name for one in questions}) < len(questions):
        raise UserError("--tasks names one task twice")
    return Plan(config, architecture, words, questions, chosen)


def objective_of(config: TruncateModel, one: Questions, architecture: Config) -> str:
    """What a choice improves: as asked for, or what the paper of the task chose by."""
    if one.protocol.name == "honest":
        return config.objective
    return published_objective(one, architecture)


def published_objective(one: Questions, architecture: Config) -> str:
    """What the paper of the task chose by."""
    # The number that a solution ends in was nobody's objective: see told.
    metric = one.marking.metric
    if metric == "choice_summed" or (metric == "contains" and not architecture.masked):
        return metric
    return "accuracy"


def generates(config: TruncateModel, one: Questions, architecture: Config) -> bool:
    """Whether every candidate has to generate its answers."""
    return objective_of(config, one, architecture) == "contains"


def told(
    config: TruncateModel, one: Questions, architecture: Config, protocol: Protocol
) -> list[str]:
    """The protocol, what differs from it here, and what was published of this model."""
    search = config.search != "none"
    lines = protocol.lines(
        rhos=config.rhos if config.search == "grid" else (),
        matrices=config.matrices if search else (),
        rule=config.search if search else "",
    )
    if (
        search
        and one.marking.metric in generated.NAMES
        and not generates(config, one, architecture)
    ):
        lines.append(
            "  not as published: candidates are compared by whether the whole answer is the most "
            "probable; generated answers are marked for the full model and the choice"
        )
    card = tasks.card_of(one.name)
    named = re.sub(r"[^a-z0-9]", "", Path(config.model).resolve().name.lower())
    for figure in card.published if card else ():
        if re.sub(r"[^a-z0-9]", "", figure.model.lower()) in named:
            lines.append(f"  published {figure.line()}")
    return lines


def answers_of(config: TruncateModel, one: Questions, architecture: Config) -> int:
    """How many test prompts are answered by generation; a masked model continues no text."""
    if one.marking.metric not in generated.NAMES or architecture.masked:
        return 0
    return max(config.answers, 1) if generates(config, one, architecture) else config.answers
