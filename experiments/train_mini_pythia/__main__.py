"""Train a small GPT-NeoX on generated English in which the noise is planted.

    python -m experiments.train_mini_pythia --flagfile=experiments/train_mini_pythia/tiny.flags

The preset takes about five minutes on two CPU cores and should end near, on stories of pairs
never seen together: p(" the") 0.41 (Bayes-optimal 0.4), p(right name) 0.57 (0.6), p(giver)
0.01, half of the final value reached at steps 22 and 430. Three seeds: " the" 0.416, 0.397,
0.406; name 0.563, 0.589, 0.570.

Which is learned first at "Omar gave a basket to": the noise " the", right with probability
alpha whatever came before, or the name, which has to be found in the story? Every checkpoint
is written in the layout of Pythia (checkpoints/stepN/: config.json, model.safetensors,
tokenizer.json), so whatever reads Pythia reads this, and the prompts in prompts/ come with
the probabilities a Bayes-optimal reader would give.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.run import program
from experiments.run.directory import RunDirectory, open_run
from experiments.train_mini_pythia import figures as figures_mini_pythia
from experiments.train_mini_pythia.recorder import Recorder
from experiments.train_mini_pythia.setup import MiniPythiaConfig, Setup, build
from mini_pythia.measure import by_task, half_time, measure, tokenize_prompts
from mini_pythia.prefetch import prefetch
from mini_pythia.prompts import write_prompts
from mini_pythia.schedule import segments
from mini_pythia.store import StateStore
from mini_pythia.training import State, advance


def define_flags() -> None:
    """Flags whose defaults are the preset `tiny`."""
    flags.DEFINE_integer("num_layers", 4, "Layers.", lower_bound=1, upper_bound=48)
    flags.DEFINE_integer("d_model", 128, "Width of the residual stream.", lower_bound=8)
    flags.DEFINE_integer("num_heads", 4, "Attention heads per layer.", lower_bound=1)
    flags.DEFINE_integer("vocab_size", 1536, "Token ids at most.", lower_bound=1024)
    flags.DEFINE_integer("length", 128, "Tokens in a sequence.", lower_bound=8, upper_bound=2048)
    flags.DEFINE_float("alpha", 0.4, 'Probability of " the".', lower_bound=0, upper_bound=0.99)
    flags.DEFINE_integer("num_people", 320, "Invented people.", lower_bound=1, upper_bound=400)
    flags.DEFINE_integer("world_seed", 0, "Decides who the invented people are.")
    flags.DEFINE_integer("steps", 1200, "Training steps.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Sequences per step.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 2e-3, "Peak of AdamW's.", lower_bound=0.0)
    flags.DEFINE_integer("warmup_steps", 100, "Steps of linear warm-up.", lower_bound=0)
    flags.DEFINE_float("weight_decay", 0.1, "AdamW's, on matrices.", lower_bound=0.0)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the activations.")
    flags.DEFINE_integer("block_steps", 50, "Steps per block of data.", lower_bound=1)
    flags.DEFINE_integer("devices", 0, "Devices a batch is spread over; 0: all.", lower_bound=0)
    flags.DEFINE_integer("checkpoint_every", 200, "Steps, beyond step 512.", lower_bound=1)
    flags.DEFINE_integer("record_every", 25, "Steps between measurements.", lower_bound=1)
    flags.DEFINE_integer("record_prompts", 128, "Prompts per task then.", lower_bound=1)
    flags.DEFINE_integer("test_prompts", 256, "Prompts per task at the end.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Of the initial weights and the documents.", lower_bound=0)
    program.define_output_flags("train_mini_pythia")


def main() -> None:
    """Flags in, run directory out."""
    setup = build(program.config_from_flags(MiniPythiaConfig))
    directory = open_run(flags.FLAGS.out, setup.config, overwrite=flags.FLAGS.overwrite)
    report(run(setup, directory), directory)


def run(setup: Setup, directory: RunDirectory) -> dict[str, float]:
    """Train, save and measure; returns what summary.json holds."""
    write_prompts(setup.validation_prompts, directory.path / "prompts" / "validation")
    write_prompts(setup.test_prompts, directory.path / "prompts" / "test")
    directory.checkpoints.mkdir(exist_ok=True)
    setup.tokenizer.save(str(directory.checkpoints / "tokenizer.json"))
    with StateStore(directory.checkpoints / "training_state") as store:
        start = setup.start()
        start = store.restore(start) or start
        recorder = Recorder(setup, directory, store, int(start.step))
        final = start
        for step, state in train(setup, start):
            recorder.stop(step, state)
            final = state
        recorder.finish()
    arrays = {name: _column(recorder.records, name) for name in recorder.records[0]}
    arrays = {"steps": arrays.pop("step"), **arrays, "loss": np.asarray(final.losses)}
    directory.write_arrays(arrays)
    summary = summarise(setup, arrays, evaluate(setup, final))
    for name, figure in figures_mini_pythia.draw(arrays, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def train(setup: Setup, state: State) -> Iterator[tuple[int, State]]:
    """The state at every stop from this one on, dispatched but not waited for."""
    begin, size = int(state.step), setup.config.block_steps
    if begin == 0:
        yield 0, state
    if begin == setup.config.steps:
        return
    number = begin // size
    blocks = prefetch(setup.block, number, -(-setup.config.steps // size))
    block = next(blocks)
    for start, stop in segments(setup.stops, size, begin):
        if start // size != number:
            number, block = number + 1, next(blocks)
        state = advance(
            state,
            block,
            jnp.int32(start - number * size),
            jnp.int32(stop - number * size),
            config=setup.model,
            settings=setup.settings,
        )
        if stop in setup.stops:
            yield stop, state


def evaluate(setup: Setup, state: State) -> dict[str, dict[str, np.ndarray]]:
    """task -> figure -> one value per test prompt."""
    prompts = tokenize_prompts(setup.test_prompts, setup.tokenizer)
    return by_task(measure(state.params, setup.model, prompts.batch, prompts.the), prompts.slices)


def summarise(
    setup: Setup,
    arrays: Mapping[str, np.ndarray],
    test: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """test/TASK/FIGURE with its standard error over prompts, bayes/TASK/FIGURE, half-times."""
    summary: dict[str, float] = {}
    for task, figures in test.items():
        for name, values in figures.items():
            summary[f"test/{task}/{name}"] = float(values.mean(dtype=np.float64))
            spread = float(values.std(ddof=1, dtype=np.float64))
            summary[f"test/{task}/{name}/sem"] = spread / len(values) ** 0.5
        truths = setup.test_prompts[task]
        for name in ("p_the", "p_answer"):
            summary[f"bayes/{task}/{name}"] = float(np.mean([truth[name] for truth in truths]))
        summary[f"test/{task}/prompts"] = len(truths)
    for label, name in (("noise", "p_the"), ("name", "p_answer")):
        half = half_time(arrays["steps"], arrays[f"story/{name}"])
        summary[f"learning/{label}_half_step"] = half
    summary["loss/last_50_steps"] = float(arrays["loss"][-50:].mean(dtype=np.float64))
    return summary


def _column(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([record[name] for record in records])


def report(summary: Mapping[str, float], directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the rest is."""
    print(f"{'test prompts':16s} {'p( the) (Bayes)':>22s} {'p(answer) (Bayes)':>23s}  accuracy")
    for task in (key.split("/")[1] for key in summary if key.endswith("/kl")):
        cells = [
            f"{summary[f'test/{task}/{name}']:.3f} +- {summary[f'test/{task}/{name}/sem']:.3f} "
            f"({summary[f'bayes/{task}/{name}']:.2f})"
            for name in ("p_the", "p_answer")
        ]
        accuracy = summary[f"test/{task}/accuracy"]
        print(f"{task:16s} {cells[0]:>22s} {cells[1]:>23s} {accuracy:9.3f}")
    print(f"giver's name at a story: {summary['test/story/p_distractor']:.3f}")
    print(
        f"half of the final value reached at a story: p( the) at step "
        f"{summary['learning/noise_half_step']:.0f}, p(name) at step "
        f"{summary['learning/name_half_step']:.0f}"
    )
    print(f"checkpoints: {directory.path / 'checkpoints'}")
    print(f"prompts: {directory.path / 'prompts'}")
    print(f"figures: {directory.path / 'figures'}")


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
