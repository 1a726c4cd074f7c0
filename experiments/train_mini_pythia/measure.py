"""The training of a small language model: train, save, measure, tell; whatever it reads."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.follow import follow
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.experiments.train_mini_pythia import figures, setup
from truncated_weights.experiments.train_mini_pythia.settings import MiniPythia, WordProblemSettings
from truncated_weights.experiments.train_mini_pythia.setup import Setup
from truncated_weights.mini_pythia import learning, measure
from truncated_weights.training import reductions
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.loop import Measurement, Record, State
from truncated_weights.training.records import Records, cells, spelled


def train(plan: Setup, directory: RunDirectory) -> Records:
    """Train, and write every saved step as a checkpoint that whatever reads its family reads.

    Blocks: `prompts`, FIGURE [step, seed, task], means over prompts along training; `losses`, loss
    [step, seed] of every step; `test`, FIGURE [seed, task, prompt] at the end, and `truth`, what
    Bayes says there, p_the and p_answer [task, prompt].
    """
    plan.write(directory.own(f"{plan.folder}/"))
    directory.own("checkpoints/")
    tokenizer = plan.reading.tokenizer
    directory.write_text("checkpoints/tokenizer.json", tokenizer.to_str(pretty=True))
    followed = learning.followed(plan.recorded(), tokenizer, plan.model)
    trainer = plan.trainer()

    def publish(step: int, state: State) -> None:
        if step in plan.saved:  # others are stored on request, to be continued
            learning.publish(plan.model, state, directory.checkpoints, step)

    def shown(record: Record) -> dict[str, float]:
        if (found := record.measured.get("prompts")) is None:
            return {}
        loss = {"loss": float(record.loss[0])} if np.isfinite(record.loss[0]) else {}
        return loss | {label: float(found[key][0]) for label, key in plan.shown.items()}

    records, end = follow(
        trainer,
        [Measurement("prompts", followed, frozenset(plan.stops))],
        directory,
        store=Store(directory.checkpoints / "training_state", keep=2),
        checkpoint_steps=plan.saved,
        before_save=publish,
        show=shown,
    )
    seeds = np.array(trainer.seeds)
    losses = np.asarray(end.losses).T
    steps = np.arange(1, len(losses) + 1)
    asked = measure.tokenize_prompts(plan.tested(), tokenizer)
    params = jax.tree.map(lambda leaf: leaf[0], end.params)
    found = measure.measure(params, plan.model, asked.batch, asked.the)
    more = {
        "losses": xr.Dataset({"loss": (("step", "seed"), losses)}, {"step": steps, "seed": seeds}),
        "test": measure.by_task(found, asked.slices).expand_dims(seed=seeds),
        "truth": measure.truth(plan.tested()),
    }
    return Records({**records, **more})


def summarise(plan: Setup, records: Records) -> dict[str, Any]:
    """test/TASK/FIGURE with its standard error over prompts, bayes/TASK/FIGURE, half steps."""
    found: dict[str, Any] = {}
    for key, values in cells(records.test.isel(seed=0), "prompt"):
        value, error, _ = reductions.mean(values, "prompt")
        label = spelled(key.within(part="test"))
        found |= {label: float(value), f"{label}/sem": float(error)}
    for key, values in cells(records.truth, "prompt"):
        value, _, count = reductions.mean(values, "prompt")
        found[spelled(key.within(part="bayes"))] = float(value)
        found[spelled(key._replace(variable="prompts").within(part="test"))] = int(count)
    curves = records.prompts.sel(task=plan.asked).mean("seed")
    found["learning/noise_half_step"] = reductions.half_step(curves.p_the)
    found[f"learning/{plan.answer}_half_step"] = reductions.half_step(curves.p_answer)
    last = records.losses.loss.isel(step=slice(-50, None))
    found["loss/last_50_steps"] = float(last.astype(np.float64).mean())
    return found


def tell(plan: Setup, records: Records, found: Mapping[str, Any]) -> None:
    """Print what is known at the prompts of each task, beside what Bayes knows."""
    test, rows = records.test.isel(seed=0), []
    for task in map(str, test.task.values):
        row: dict[str, Any] = {f"test {plan.folder}": task}
        for title, figure in (("p( the)", "p_the"), ("p(answer)", "p_answer")):
            mean = reductions.mean(test[figure].sel(task=task), "prompt")
            bayes = float(records.truth[figure].sel(task=task).mean())
            row[f"{title} (Bayes)"] = (
                f"{float(mean.value):.3f} ± {float(mean.error):.3f} ({bayes:.2f})"
            )
        accuracy = reductions.mean(test.accuracy.sel(task=task), "prompt")
        rows.append(row | {"accuracy": table.measured(accuracy)})
    print(table.text(rows))
    if plan.answer == "name":
        giver = reductions.mean(test.p_distractor.sel(task=plan.asked), "prompt")
        print(f"giver's name at a story: {table.measured(giver)}")
    print(
        f"half of the final value reached at a {plan.asked}: p( the) at step "
        f"{found['learning/noise_half_step']:.0f}, p({plan.answer}) at step "
        f"{found[f'learning/{plan.answer}_half_step']:.0f}"
    )


def needs(config: MiniPythia | WordProblemSettings) -> Memory:
    """Weights, gradients and two moments; stream, scores, hidden units and logits of a batch."""
    width, layers = config.d_model, config.num_layers
    weights = 12 * layers * width**2 + 2 * config.vocab_size * width
    kept = layers * (8 * width + config.num_heads * config.length) + config.vocab_size
    batch = config.batch_size * config.length * kept
    return Memory(
        4.0 * (4 * weights + batch), "--num_layers, --d_model, --vocab_size or --batch_size"
    )


STORIES = Study(
    name="train_mini_pythia",
    settings=MiniPythia,
    prepare=setup.stories,
    measure=train,
    figures=figures.stories,
    summarise=summarise,
    tell=tell,
    memory=needs,
    leaves=("checkpoints", "prompts"),
)
PROBLEMS = Study(
    name="train_word_problems",
    settings=WordProblemSettings,
    prepare=setup.problems,
    measure=train,
    figures=figures.problems,
    summarise=summarise,
    tell=tell,
    memory=needs,
    leaves=("checkpoints", "problems"),
)
