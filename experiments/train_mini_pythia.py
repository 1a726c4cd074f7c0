"""Train a small GPT-NeoX on generated English in which the noise is planted.

    python -m experiments.train_mini_pythia --flagfile=experiments/presets/mini_pythia_tiny.flags

Which is learned first at "Omar gave a basket to": the noise " the", right with probability
alpha whatever came before, or the name, which has to be found in the story? Every checkpoint
is written in the layout of Pythia (checkpoints/stepN/: config.json, model.safetensors,
tokenizer.json), so whatever reads Pythia reads this, and the prompts in prompts/ come with
the probabilities a Bayes-optimal reader would give.
"""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tokenizers import Tokenizer

import pythia
from experiments import mini_pythia_figures, program
from experiments.program import RunFailedError
from experiments.progress import Progress
from experiments.run_directory import RunDirectory, open_run
from pythia import export
from pythia.mini import training
from pythia.mini.corpus import Corpus, packed_block
from pythia.mini.measure import PromptBatch, by_task, half_time, measure, tokenize_prompts
from pythia.mini.prefetch import prefetch
from pythia.mini.prompts import evaluation_sets, write_prompts
from pythia.mini.schedule import checkpoint_steps, record_steps, segments
from pythia.mini.store import StateStore
from pythia.mini.tokenizer import train_tokenizer

# Before this step starting over is as quick as continuing.
_FIRST_SAVED_STEP = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of this program."""

    num_layers: int
    d_model: int
    num_heads: int
    vocab_size: int
    length: int
    alpha: float
    num_people: int
    world_seed: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    dtype: str
    block_steps: int
    devices: int
    checkpoint_every: int
    record_every: int
    record_prompts: int
    test_prompts: int
    seed: int
    out: str
    overwrite: bool

    def model(self) -> pythia.Config:
        """The architecture, with Pythia's proportions."""
        return pythia.Config(
            vocab_size=self.vocab_size,
            num_layers=self.num_layers,
            d_model=self.d_model,
            num_heads=self.num_heads,
            d_ff=4 * self.d_model,
        )

    def settings(self) -> training.Settings:
        """The optimiser."""
        return training.Settings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            dtype=self.dtype,
        )

    def corpus(self) -> Corpus:
        """The language."""
        return Corpus(alpha=self.alpha, num_people=self.num_people, world_seed=self.world_seed)


def define_flags() -> None:
    """The flags, with the values of the preset `tiny` as defaults."""
    flags.DEFINE_integer("num_layers", 4, "Layers.", lower_bound=1, upper_bound=48)
    flags.DEFINE_integer("d_model", 128, "Width of the residual stream.", lower_bound=8)
    flags.DEFINE_integer("num_heads", 4, "Attention heads per layer.", lower_bound=1)
    flags.DEFINE_integer("vocab_size", 1536, "Token ids at most.", lower_bound=1024)
    flags.DEFINE_integer("length", 128, "Tokens per training sequence.", lower_bound=8)
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
    flags.DEFINE_integer("devices", 0, "Devices to divide a batch over; 0: all.", lower_bound=0)
    flags.DEFINE_integer("checkpoint_every", 200, "Steps, beyond step 512.", lower_bound=1)
    flags.DEFINE_integer("record_every", 25, "Steps between measurements.", lower_bound=1)
    flags.DEFINE_integer("record_prompts", 128, "Prompts per task then.", lower_bound=1)
    flags.DEFINE_integer("test_prompts", 256, "Prompts per task at the end.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Of the initial weights and the documents.", lower_bound=0)
    program.define_output_flags("train_mini_pythia")


def run(config: Config) -> dict[str, float]:
    """Train, save and measure; returns what summary.json holds."""
    with program.user_errors():
        model_config, settings, corpus = config.model(), config.settings(), config.corpus()
        mesh = training.data_mesh(_devices(config))
        tokenizer = train_tokenizer(corpus, vocab_size=config.vocab_size)
    directory = open_run(config.out, config, overwrite=config.overwrite)
    validation = evaluation_sets(corpus, part="validation", count=config.record_prompts)
    test = evaluation_sets(corpus, part="test", count=config.test_prompts)
    # The searches choose on as many prompts as they are tested on.
    choosing = evaluation_sets(corpus, part="validation", count=config.test_prompts)
    write_prompts(choosing, directory.path / "prompts" / "validation")
    write_prompts(test, directory.path / "prompts" / "test")
    directory.checkpoints.mkdir(exist_ok=True)
    tokenizer.save(str(directory.checkpoints / "tokenizer.json"))

    with StateStore(directory.checkpoints / "training_state") as store:
        state = training.init_state(model_config, settings, key=jax.random.key(config.seed))
        state = training.replicate(state, mesh)
        state = store.restore(state) or state
        recorder = Recorder(config, directory, store, tokenize_prompts(validation, tokenizer))
        recorder.resume(int(state.step))
        if int(state.step) == 0:
            recorder.stop(0, state)
        for step, state in _train(config, settings, state, corpus, tokenizer, mesh):
            recorder.stop(step, state)
        recorder.finish()
    prompts = tokenize_prompts(test, tokenizer)
    figures = measure(state.params, model_config, prompts.batch, prompts.the)
    return _conclude(config, directory, recorder.records, state, by_task(figures, prompts.slices))


def _devices(config: Config) -> Sequence[jax.Device]:
    present = jax.devices()
    used = config.devices or len(present)
    if used > len(present):
        raise ValueError(f"--devices={used}, but there are {len(present)}")
    if config.batch_size % used:
        raise ValueError(f"--batch_size={config.batch_size} is not a multiple of {used} devices")
    return present[:used]


def _train(
    config: Config,
    settings: training.Settings,
    state: training.State,
    corpus: Corpus,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
) -> Iterator[tuple[int, training.State]]:
    """The state at every stop, dispatched but not waited for."""

    def block(index: int) -> jax.Array:
        count, length = config.block_steps * config.batch_size, config.length
        rows = packed_block(
            corpus, tokenizer, seed=config.seed, index=index, num_sequences=count, length=length
        )
        return training.place_block(
            rows.reshape(config.block_steps, config.batch_size, length), mesh
        )

    checkpoints = checkpoint_steps(config.steps, config.checkpoint_every)
    stops = record_steps(checkpoints, config.record_every)
    spans = segments(stops, config.block_steps, int(state.step))
    if not spans:
        return
    first = spans[0][0] // config.block_steps
    blocks = prefetch(block, first, -(-config.steps // config.block_steps))
    loaded, current = first - 1, None
    for start, stop in spans:
        while loaded < start // config.block_steps:
            loaded, current = loaded + 1, next(blocks)
        assert current is not None
        origin = loaded * config.block_steps
        state = training.advance(
            state,
            current,
            jnp.int32(start - origin),
            jnp.int32(stop - origin),
            config=config.model(),
            settings=settings,
        )
        if stop in stops:
            yield stop, state


class Recorder:
    """Measures and saves at the stops, each while the device is already past it."""

    def __init__(
        self, config: Config, directory: RunDirectory, store: StateStore, prompts: PromptBatch
    ):
        """Nothing is written before the first stop."""
        self.records: list[dict[str, Any]] = []
        self._config, self._directory, self._store = config, directory, store
        self._prompts = prompts
        self._checkpoints = set(checkpoint_steps(config.steps, config.checkpoint_every))
        self._pending: tuple[int, training.State, Mapping[str, jax.Array]] | None = None
        self._progress: Progress | None = None

    def resume(self, step: int) -> None:
        """Keep the records up to `step`; those beyond will be made again."""
        file = self._directory.path / "metrics.jsonl"
        if step and file.exists():
            lines = (json.loads(line) for line in file.read_text().splitlines())
            self.records = [record for record in lines if record["step"] <= step]
        self._directory.rewrite_metrics(self.records)
        self._progress = Progress(self._config.steps, start=step)

    def stop(self, step: int, state: training.State) -> None:
        """Ask for the measurements of this stop, and deal with the stop before it."""
        batch = self._prompts.batch
        figures = measure(state.params, self._config.model(), batch, self._prompts.the)
        previous, self._pending = self._pending, (step, state, figures)
        if previous is not None:
            self._write(*previous)

    def finish(self) -> None:
        """Deal with the last stop."""
        if self._pending is not None:
            self._write(*self._pending)
        if self._progress is not None:
            self._progress.close()

    def _write(self, step: int, state: training.State, figures: Mapping[str, jax.Array]) -> None:
        since = self.records[-1]["step"] if self.records else 0
        losses = np.asarray(state.losses)[since:step]
        if not np.isfinite(losses).all():
            bad = since + int(np.argmin(np.isfinite(losses))) + 1
            kept = self._store.latest_step
            raise RunFailedError(
                f"the loss of step {bad} is not finite; the last good checkpoint is "
                + ("the initial one" if kept is None else f"step {kept}")
            )
        record: dict[str, Any] = {"step": step}
        if step > since:
            record["loss"] = float(losses.mean(dtype=np.float64))
        for task, values in by_task(figures, self._prompts.slices).items():
            for name, value in values.items():
                record[f"{task}/{name}"] = float(value.mean(dtype=np.float64))
        self.records.append(record)
        self._directory.append_metrics(record)
        if step in self._checkpoints:
            self._export(step, state)
            if step >= _FIRST_SAVED_STEP:
                self._store.save(state, step)
        if self._progress is not None:
            shown = {"p(the)": record["story/p_the"], "p(name)": record["story/p_answer"]}
            self._progress.update(step, loss=record.get("loss", float("nan")), **shown)

    def _export(self, step: int, state: training.State) -> Path:
        folder = self._directory.checkpoints
        checkpoint = pythia.Checkpoint(
            config=self._config.model(), params=jax.device_get(state.params), directory=folder
        )
        return export.save(checkpoint, folder / f"step{step}", dtype="float32", overwrite=True)


def _conclude(
    config: Config,
    directory: RunDirectory,
    records: Sequence[Mapping[str, Any]],
    state: training.State,
    test: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    steps = np.array([record["step"] for record in records])
    names = [name for name in records[0] if name not in ("step", "loss")]
    arrays = {name: np.array([record[name] for record in records]) for name in names}
    losses = np.asarray(state.losses)
    directory.write_arrays({"steps": steps, "loss": losses, **arrays})
    summary: dict[str, float] = {}
    for task, figures in test.items():
        for name, values in figures.items():
            summary[f"test/{task}/{name}"] = float(values.mean(dtype=np.float64))
            error = values.std(ddof=1, dtype=np.float64) / np.sqrt(len(values))
            summary[f"test/{task}/{name}_error"] = float(error)
        summary[f"test/{task}/prompts"] = len(figures["kl"])
        noisy = task.startswith(("story", "facts"))
        summary[f"bayes/{task}/p_the"] = config.alpha if noisy else 0.0
        summary[f"bayes/{task}/p_answer"] = 1.0 - config.alpha if noisy else 1.0
    for name in ("p_the", "p_answer"):
        summary[f"half_step/story/{name}"] = half_time(steps, arrays[f"story/{name}"])
    summary["loss/last"] = float(losses[-50:].mean(dtype=np.float64))
    for name, figure in mini_pythia_figures.draw(steps, losses, arrays, config.alpha).items():
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def tell(summary: Mapping[str, float], out: str) -> None:
    """Print the figures that answer the question."""
    print('test prompts: model (Bayes)     p(" the")            p(answer)            accuracy')
    for key in summary:
        if key.endswith("/kl"):
            task = key.split("/")[1]
            cells = [
                f"{summary[f'test/{task}/{name}']:.3f} +- {summary[f'test/{task}/{name}_error']:.3f}"
                f" ({summary[f'bayes/{task}/{name}']:.1f})"
                for name in ("p_the", "p_answer")
            ]
            accuracy = summary[f"test/{task}/accuracy"]
            print(f"{task:28s}  {cells[0]}  {cells[1]}  {accuracy:.3f}")
    print(
        f'half of the final value at a story: p(" the") at step '
        f"{summary['half_step/story/p_the']:.0f}, p(name) at step "
        f"{summary['half_step/story/p_answer']:.0f}"
    )
    print(f"checkpoints in {out}/checkpoints, prompts in {out}/prompts, pictures in {out}/figures")


def main() -> None:
    """Entry point."""
    config = program.config_from_flags(Config)
    began = time.monotonic()
    tell(run(config), config.out)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    define_flags()
    program.run(main)
