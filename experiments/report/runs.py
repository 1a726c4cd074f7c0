"""What the claims are read from: every run of the report, quick and full, written once.

In flags {NAME} is the directory of another run of the report, which is then run before, {presets}
the folder of the programs with their flag files, {text} and {model} what the user named.
"""

import dataclasses
import re
from pathlib import Path

from truncated_weights.experiments.associative_memory.__main__ import PROGRAM as ASSOCIATIVE_MEMORY
from truncated_weights.experiments.find_noise.__main__ import PROGRAM as FIND_NOISE
from truncated_weights.experiments.linearised.__main__ import PROGRAM as LINEARISED
from truncated_weights.experiments.model_dynamics.__main__ import PROGRAM as MODEL_DYNAMICS
from truncated_weights.experiments.noisy_recall.__main__ import PROGRAM as NOISY_RECALL
from truncated_weights.experiments.phase_diagram.__main__ import PROGRAM as PHASE_DIAGRAM
from truncated_weights.experiments.plateau.__main__ import PROGRAM as PLATEAU
from truncated_weights.experiments.real_model.__main__ import PROGRAM as REAL_MODEL
from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.sweep.__main__ import PROGRAM as SWEEP
from truncated_weights.experiments.train_mini_pythia.__main__ import PROGRAM as TRAIN_MINI_PYTHIA
from truncated_weights.experiments.truncate.__main__ import PROGRAM as TRUNCATE
from truncated_weights.experiments.truncate_model.__main__ import PROGRAM as TRUNCATE_MODEL
from truncated_weights.experiments.verify_theory.__main__ import PROGRAM as VERIFY_THEORY

PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        ASSOCIATIVE_MEMORY, FIND_NOISE, LINEARISED, MODEL_DYNAMICS, NOISY_RECALL, PHASE_DIAGRAM,
        PLATEAU, REAL_MODEL, SWEEP, TRAIN_MINI_PYTHIA, TRUNCATE, TRUNCATE_MODEL, VERIFY_THEORY,
    )
}  # fmt: skip
PRESETS = Path(__file__).parents[1]
# What a user has to name before a run can begin, and what a row says where nobody did.
GIVEN = {
    "model": "not run: no weights (--models)",
    "package": "not run: no model in the cache (make real)",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one program.

    full, quick: flags beside --out; quick is full where it is empty. minutes: quick and full on
    two CPU cores: what the quick run took in a whole report (an estimate where it needs what a user
    has), and for the full one, an estimate, that times its steps and seeds over the quick one's.
    """

    program: str
    full: tuple[str, ...]
    quick: tuple[str, ...] = ()
    minutes: tuple[float, float] = (1.0, 1.0)

    def flags(self, quick: bool) -> tuple[str, ...]:
        """The flags with their placeholders."""
        return self.quick if quick and self.quick else self.full

    def placeholders(self) -> set[str]:
        """What stands in braces in any of the flags."""
        return set(re.findall(r"{(\w+)}", " ".join((*self.full, *self.quick))))

    def needs(self) -> set[str]:
        """Names of the runs that this one reads."""
        return self.placeholders() - {"presets", *GIVEN}

    def asks(self) -> set[str]:
        """What the user must have named."""
        return self.placeholders() & set(GIVEN)


def filled(text: str, places: dict[str, str]) -> str:
    """A flag with its placeholders replaced; what is in braces and unknown stays."""
    return re.sub(r"{(\w+)}", lambda found: places.get(found[1], found[0]), text)


_CUTS = "--interventions=1.mlp@0,1.fc_in@0.1,1.fc_in@0.2,1.fc_out@-0.01,0.mlp@0"
_RHOS = "--rhos=0,0.02,0.1,0.2,0.5,1"
_FEW = ("--rhos=0,1", "--eval_every=250")
_ALONG = (
    "--run={recall}", "--interventions=1.mlp@0,1.fc_out@-0.01", "--curves=1.fc_in,1.fc_out",
    "--rhos=0,0.02,0.05,0.1,0.2,0.35,0.6,1",
)  # fmt: skip
_PROMPTS = ("story", "facts_frequent", "facts_rare", "sum_seen", "product")
_ASKED = tuple(
    f"--{flag}=" + ",".join(f"jsonl:{{mini}}/prompts/{split}/{task}.jsonl" for task in _PROMPTS)
    for flag, split in (("tasks", "validation"), ("test_tasks", "test"))
)
_GRID = ("--search=grid", "--objective=loss")
_TINY = "--flagfile={presets}/train_mini_pythia/tiny.flags"
_DYNAMICS = (
    "--checkpoints={mini}/checkpoints", "--task=jsonl:{mini}/prompts/test/story.jsonl",
    "--interventions=0.fc_in@0.6,3.fc_in@0.1,3.mlp@0",
)  # fmt: skip

RUNS = {
    "memory_two": Run("associative_memory", ("--num_inputs=2",), (), (0.08, 0.15)),
    "memory_four": Run("associative_memory", ("--num_inputs=4",), (), (0.07, 0.15)),
    "memory_zipf": Run(
        "associative_memory",
        ("--num_inputs=64", "--frequencies=zipf", "--shared=0.5", "--step_size=1"),
        (),
        (0.12, 0.2),
    ),
    "real": Run("real_model", ("--model={package}",), (), (3.2, 3.2)),
    "phase": Run("phase_diagram", ("--points=128",), ("--points=32",), (0.14, 1.2)),
    "theory": Run("verify_theory", (), ("--quick",), (2, 9.9)),
    "recall": Run(
        "noisy_recall",
        (_CUTS, _RHOS, "--num_seeds=8", "--steps=1500", "--checkpoint_every=50"),
        (_CUTS, _RHOS, "--num_seeds=3", "--checkpoint_every=50"),
        (1.7, 31.2),
    ),
    "cuts": Run(
        "truncate",
        (*_ALONG, "--steps=1,2,4,8,16,32,64,100,150,200,250,300,400,500,750,1000,1500"),
        (*_ALONG, "--steps=4,16,64,100,150,200,300,500", "--num_sequences=64"),
        (0.66, 8),
    ),
    "rules": Run(
        "find_noise",
        ("--run={recall}", "--max_seeds=4", "--along=8"),
        ("--run={recall}", "--max_seeds=3", "--validation=32", "--test=256"),
        (2.4, 18.3),
    ),
    "no_feed_forward": Run(
        "noisy_recall",
        ("--flagfile={presets}/noisy_recall/no_feed_forward.flags", *_FEW, "--num_seeds=4"),
        ("--flagfile={presets}/noisy_recall/no_feed_forward.flags", *_FEW, "--num_seeds=3"),
        (2.1, 6),
    ),
    "linear_feed_forward": Run(
        "noisy_recall",
        ("--flagfile={presets}/noisy_recall/linear_feed_forward.flags", "--rhos=0,1",
         "--num_seeds=4"),
        ("--flagfile={presets}/noisy_recall/linear_feed_forward.flags", "--rhos=0,1",
         "--eval_every=100"),
        (0.56, 4),
    ),
    "all_tokens": Run(
        "noisy_recall",
        ("--flagfile={presets}/noisy_recall/all_tokens.flags", "--rhos=0,1", "--num_seeds=4"),
        ("--loss_on=all", "--bigram_batch=16", "--steps=400", "--rhos=0,1", "--eval_every=100",
         "--num_seeds=3"),
        (4.3, 22.5),
    ),
    "published": Run(
        "noisy_recall",
        ("--flagfile={presets}/noisy_recall/published_small.flags", "--num_seeds=4",
         "--checkpoint_every=50"),
        ("--flagfile={presets}/noisy_recall/published_small.flags", "--rhos=0,1",
         "--eval_every=100", "--num_seeds=3"),
        (2, 6),
    ),
    "sweep": Run(
        "sweep",
        ("--flagfile={presets}/sweep/phase_map.flags",),
        ("--flagfile={presets}/sweep/phase_map.flags", "--alpha=0.1,0.5", "--num_tokens=16,32",
         "--num_seeds=3"),
        (1.1, 5.6),
    ),
    "linearised": Run(
        "linearised", ("--steps=600", "--num_seeds=4"), ("--steps=200",), (0.55, 5.4)
    ),
    "plateau": Run(
        "plateau", (), ("--learning_rates=0.03", "--batch_sizes=32"), (0.25, 4.8)
    ),
    "mini": Run("train_mini_pythia", (_TINY,), (_TINY, "--steps=600"), (2.2, 10.2)),
    "mini_cuts": Run(
        "truncate_model",
        ("--model={mini}/checkpoints/step1200", *_ASKED, *_GRID,
         "--matrices=q_proj,k_proj,v_proj,out_proj,fc_in,fc_out"),
        ("--model={mini}/checkpoints/step600", *_ASKED, *_GRID, "--rhos=0.8,0.6,0.4,0.2,0.1,0"),
        (0.69, 4.1),
    ),
    "mini_dynamics": Run("model_dynamics", _DYNAMICS, (), (0.21, 0.4)),
    "model": Run(
        "truncate_model",
        ("--model={model}", "--tasks=indirect_object,country_facts",
         "--interventions=-1.fc_in@0.1,-2.fc_in@0.1"),
        ("--model={model}", "--tasks=indirect_object,country_facts",
         "--interventions=-1.fc_in@0.1,-2.fc_in@0.1", "--num_examples=64"),
        (3.0, 10.0),
    ),
}  # fmt: skip
