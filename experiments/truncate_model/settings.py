"""The settings of a truncation of a language model."""

import dataclasses

from truncated_weights.experiments.run.inputs.model_settings import ModelSettings
from truncated_weights.training.settings import setting
from truncated_weights.truncation import rules
from truncated_weights.truncation.notation import LASER_RHOS

OBJECTIVES = (
    "accuracy",
    "loss",
    "p_answer",
    "margin_the",
    "logit_difference",
    "choice",
    "choice_summed",
    "contains",
)
SEARCHES = ("none", *rules.names())
SAVED = ("float32", "bfloat16", "float16")
ORDERS = ("best_first", "last_first")


@dataclasses.dataclass(frozen=True)
class TruncateModel(ModelSettings):
    """The model, the tasks, the cuts or the search for them, and what is kept."""

    model: str = setting("", "Checkpoint directory.", required=True)
    tasks: tuple[str, ...] = setting(
        ("indirect_object",), "Tasks; python -m experiments.tasks tells of all.", required=True
    )
    test_tasks: tuple[str, ...] = setting(
        (), "A task for each of --tasks whose examples are the test.", repeats=True
    )
    interventions: tuple[str, ...] = setting((), "What to cut, as 5.fc_in@0.1+5.fc_out@0.")
    search: str = setting("none", "How to look for the best cut.", choices=SEARCHES)
    matrices: tuple[str, ...] = setting(
        ("fc_in", "fc_out"), "Matrices a search may cut.", required=True
    )
    layers: tuple[int, ...] = setting(
        (), "Layers a search may cut, -1 the last; empty: all.", lower=-1000, upper=1000
    )
    late_half: bool = setting(False, "Let a search cut the upper half of the layers alone.")
    rhos: tuple[str, ...] = setting(LASER_RHOS, "Fractions of rank a search tries.", required=True)
    removed: tuple[float, ...] = setting(
        (0.01, 0.05, 0.1, 0.2), "Fractions eigenprune removes.", lower=1e-6, upper=1.0,
        required=True,
    )  # fmt: skip
    objective: str = setting("accuracy", "What the choice improves.", choices=OBJECTIVES)
    fraction: float = setting(
        0.25, "Cost of gradient_guided, of the grid's.", lower=0.001, upper=1.0
    )
    validation: float = setting(0.2, "Share of examples for choosing.", lower=0.001, upper=0.999)
    protocol: str = setting(
        "honest", "Split, objective and choice: as they should be, as the task's paper has them, "
        "or both side by side.", choices=("honest", "published", "both"),
    )  # fmt: skip
    paper: str = setting(
        "", "Whose protocol, where the task is in no paper.", choices=("", "laser", "eigenpruning")
    )
    counts: str = setting("", "File of how often facts are told: flips by frequency.")
    answers: int = setting(
        256,
        "Test prompts answered by generation, where the task is marked so.",
        lower=0,
        upper=10**8,
    )
    order: str = setting("best_first", "Of --search=greedy.", choices=ORDERS)
    bootstrap: int = setting(2000, "Resamples of the intervals.", lower=100, upper=10**6)
    save: str = setting("", "Directory for the edited checkpoint of a single task.")
    save_dtype: str = setting(
        "", "Dtype of --save; empty: every tensor's own.", choices=("", *SAVED)
    )
    plan: str = setting("", "Print hours and memory of the search on one of these; run nothing.",
        choices=("", "h200", "h100", "a100"))  # fmt: skip
    factored: bool = setting(False, "Save cut matrices as two factors where that is smaller.")
