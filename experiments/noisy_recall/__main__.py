"""How a two-layer Transformer learns noisy in-context recall, and what truncation removes.

    python -m experiments.noisy_recall
    python -m experiments.noisy_recall --flagfile=experiments/noisy_recall/paper.flags --text=FILE

Defaults take about a minute on two CPU cores and should end near: full model p(noise) 0.47 on
clean sequences; second feed-forward removed (1.mlp@0) p(correct) 0.92, p(noise) 0.004; its
input matrix at a tenth of its rank (1.fc_in@0.1) p(correct) 0.88; attention on correct tokens
0.94 and on noise tokens below 0.01.
"""

import jax
import numpy as np
from absl import flags

from experiments.noisy_recall import figures as figures_recall
from experiments.run import program
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import RunFailedError, UserError
from experiments.run.progress import Progress
from experiments.run.recall_setup import RecallConfig, Setup, build
from experiments.run.trajectory import Trajectory
from toy import recall_problem
from training import loop as training
from training.checkpoint import CheckpointError, Store
from training.loop import Measurement, NonFiniteError, State, Trainer


def define_flags() -> None:
    """Typed flags with bounds and one-line help."""
    flags.DEFINE_enum("language", "zipf", ["zipf", "uniform"], "Law of the ordinary tokens.")
    flags.DEFINE_string(
        "text", "", "Text file whose characters and pairs are the language instead."
    )
    flags.DEFINE_integer("num_tokens", 64, "Ordinary tokens.", lower_bound=2, upper_bound=10_000)
    flags.DEFINE_float("zipf_exponent", 1.0, "Unigram law is rank^-exponent.", lower_bound=0.0)
    flags.DEFINE_float(
        "concentration", 8.0, "Rows are Dirichlet(this * unigram).", lower_bound=1e-3
    )
    flags.DEFINE_float("alpha", 0.5, "Probability of noise.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("length", 128, "Tokens in a sequence.", lower_bound=2, upper_bound=65_536)
    flags.DEFINE_integer("num_triggers", 1, "Triggers: the most frequent tokens.", lower_bound=1)
    flags.DEFINE_list("triggers", [], "Triggers by index or symbol, instead of the most frequent.")
    flags.DEFINE_integer("num_noise", 1, "Noise tokens.", lower_bound=1)
    flags.DEFINE_bool("existing_noise", False, "Noise is the rarest ordinary token, not a new one.")
    flags.DEFINE_enum("scoring", "every", ["every", "final"], "Where the loss is taken.")
    flags.DEFINE_integer("d_model", 128, "Width.", lower_bound=1, upper_bound=65_536)
    flags.DEFINE_integer("d_hidden", 0, "Feed-forward width; 0 means 4 d_model.", lower_bound=0)
    flags.DEFINE_list("feed_forward", ["mlp", "mlp"], "Per layer: none, linear or mlp.")
    flags.DEFINE_enum(
        "positions",
        "gaussian",
        ["gaussian", "sinusoidal", "learned", "none"],
        "Position embedding.",
    )
    flags.DEFINE_bool("learned_query", False, "Learn W_Q instead of the identity.")
    flags.DEFINE_bool("attention_residual", True, "Residual connection around attention.")
    flags.DEFINE_bool("feed_forward_residual", True, "Residual connection around feed-forwards.")
    flags.DEFINE_list("frozen", [], "Matrices kept at their start, as 0.k_proj,1.fc_in.")
    flags.DEFINE_list("trained", [], "Also trained: embeddings, unembedding.")
    flags.DEFINE_integer("steps", 500, "Optimiser steps.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Sequences per step.", lower_bound=1)
    flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam", "adamw"], "Optimiser.")
    flags.DEFINE_float("learning_rate", 0.03, "Peak learning rate.", lower_bound=0.0)
    flags.DEFINE_float("momentum", 0.9, "Momentum, or Adam's b1.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float("weight_decay", 1e-4, "Weight decay.", lower_bound=0.0)
    flags.DEFINE_enum(
        "schedule", "constant", ["constant", "cosine", "linear"], "Learning-rate law."
    )
    flags.DEFINE_integer("warmup", 0, "Steps of linear warm-up.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "First seed.", lower_bound=0, upper_bound=2**31)
    flags.DEFINE_integer("num_seeds", 1, "Seeds trained side by side.", lower_bound=1)
    flags.DEFINE_integer(
        "devices", 0, "Devices the batch is spread over; 0 means all.", lower_bound=0
    )
    flags.DEFINE_enum(
        "matmul_precision",
        "highest",
        ["highest", "high", "default"],
        "Of matrix products on accelerators: float32, or what is faster.",
    )
    flags.DEFINE_integer(
        "eval_every", 50, "Steps between records, beside 1, 2, 4, ...", lower_bound=1
    )
    flags.DEFINE_integer("eval_batch", 64, "Sequences per record.", lower_bound=1)
    flags.DEFINE_integer("final_batch", 256, "Sequences of the final figures.", lower_bound=1)
    flags.DEFINE_integer(
        "spectrum_every", 0, "Steps between spectra; 0 means 1, 2, 4, ... only.", lower_bound=0
    )
    flags.DEFINE_integer(
        "checkpoint_every",
        0,
        "Steps between checkpoints; 0 means 1, 2, 4, ... only.",
        lower_bound=0,
    )
    flags.DEFINE_list("interventions", [], "Followed along training; empty means the usual ones.")
    flags.DEFINE_list(
        "rhos",
        ["0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.75", "1"],
        "Fractions of rank in the final truncation curves.",
    )
    program.define_output_flags("noisy_recall")


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(RecallConfig)
    setup = build(config)
    trainer = setup.trainer()
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    with jax.default_matmul_precision(config.matmul_precision):
        summary = run(setup, trainer, directory)
    report(summary, setup, directory)


def run(setup: Setup, trainer: Trainer, directory: RunDirectory) -> dict[str, float]:
    """Train, measure, draw; returns what summary.json holds."""
    arrays, state = train(setup, trainer, directory)
    arrays |= evaluate(setup, trainer, state)
    directory.write_arrays(arrays)
    summary = summarise(arrays)
    for name, figure in figures_recall.draw(arrays, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def train(
    setup: Setup, trainer: Trainer, directory: RunDirectory
) -> tuple[dict[str, np.ndarray], State]:
    """Train to the end, from the last checkpoint where there is one."""
    config = setup.config
    store = Store(directory.checkpoints)
    done = store.steps()[-1] if store.steps() else 0
    trajectory = Trajectory(directory.read_arrays() if store.steps() else None)
    trajectory.cut(done)
    directory.rewrite_metrics(trajectory.lines())

    usual = training.log_spaced(config.steps, every=config.eval_every)
    sparse = training.log_spaced(config.steps, every=config.spectrum_every or config.steps)
    saves = training.log_spaced(config.steps, every=config.checkpoint_every or config.steps)
    model = recall_problem.measure_models(
        setup.task, setup.model, setup.interventions, batch_size=config.eval_batch
    )
    measurements = [
        Measurement("models", model, usual),
        Measurement(
            "mechanisms", recall_problem.measure_mechanisms(setup.task, setup.model), usual
        ),
        Measurement("spectra", recall_problem.measure_spectra(setup.task, setup.model), sparse),
    ]
    progress = Progress(config.steps, start=done)
    try:
        for record in training.run(
            trainer, measurements, num_steps=config.steps, checkpoint_steps=saves, store=store
        ):
            trajectory.add(record)
            directory.append_metrics(trajectory.line(record.step))
            if record.step in saves:
                directory.write_arrays(trajectory.arrays())
            if full := record.measured.get("models"):
                progress.update(
                    record.step,
                    loss=float(np.mean(full["noisy/full/loss"])),
                    p_noise=float(np.mean(full["clean/full/p_noise"])),
                )
    except NonFiniteError as error:
        last = store.steps()[-1] if store.steps() else "none"
        raise RunFailedError(
            f"{error}; the last good checkpoint is {last} in {directory.checkpoints.name}/"
        ) from error
    except CheckpointError as error:
        raise UserError(f"--out={directory.path}: {error}; --overwrite begins again") from error
    finally:
        progress.close()
        store.wait()
    state = store.restore(trainer.abstract())
    if state is None:
        raise RunFailedError(f"{directory.checkpoints} vanished while the run was going on")
    return trajectory.arrays(), state


def evaluate(setup: Setup, trainer: Trainer, state: State) -> dict[str, np.ndarray]:
    """Final figures of the full model, the followed cuts and the whole curves over rho."""
    chosen = tuple(dict.fromkeys(map(str, (*setup.interventions, *setup.curves))))
    by_name = {str(i): i for i in (*setup.interventions, *setup.curves)}
    measure = recall_problem.measure_models(
        setup.task,
        setup.model,
        [by_name[name] for name in chosen],
        batch_size=setup.config.final_batch,
        at_once=4,
    )
    measured = jax.device_get(trainer.measure(measure)(state))
    return {f"final/{name}": np.asarray(value) for name, value in measured.items()}


def summarise(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over seeds of the final figures, with /sem beside them where seeds are several."""
    summary: dict[str, float] = {}
    for name, values in arrays.items():
        if name.startswith("final/") and values.ndim == 1:
            label = name.removeprefix("final/")
            summary[label] = float(np.mean(values))
            if len(values) > 1:
                summary[f"{label}/sem"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    steps = arrays["models/steps"]
    for label, name in (("noise", "p_noise"), ("recall", "p_correct")):
        curve = arrays[f"models/clean/full/{name}"].mean(axis=1)
        reached = steps[np.argmax(curve >= curve[-1] / 2)]
        summary[f"learning/{label}_half_step"] = int(reached)
    return summary


def report(summary: dict[str, float], setup: Setup, directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the pictures are."""
    print(f"{'clean sequences':24s} p(correct)  p(noise)  accuracy")
    for name in ("full", *map(str, setup.interventions)):
        row = [summary[f"clean/{name}/{m}"] for m in ("p_correct", "p_noise", "accuracy")]
        print(f"{name:24s} {row[0]:10.3f} {row[1]:9.3f} {row[2]:9.3f}")
    print(
        f"attention (noisy sequences): correct {summary['noisy/full/attention_correct']:.3f}, "
        f"noise {summary['noisy/full/attention_noise']:.3f}"
    )
    print(
        f"half of the final value reached: p(noise) at step "
        f"{summary['learning/noise_half_step']}, p(correct) at step "
        f"{summary['learning/recall_half_step']}"
    )
    for name in ("clean", "noisy"):
        if summary[f"{name}/dropped"] > 0:
            print(f"{name}: {summary[f'{name}/dropped']:g} scored positions did not fit")
    print(f"figures: {directory.path / 'figures'}")


if __name__ == "__main__":
    define_flags()
    program.run(main)
