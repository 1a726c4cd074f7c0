"""The noisy-recall run itself: train, measure, draw, and print what was found."""

from pathlib import Path

import jax
import numpy as np

from experiments.noisy_recall import figures as figures_recall
from experiments.run import stop
from experiments.run.directory import RunDirectory, open_run, read_config
from experiments.run.program import Place, RunFailedError, UserError
from experiments.run.progress import Progress
from experiments.run.recall_setup import Setup, build
from experiments.run.trajectory import Trajectory
from toy import recall_problem
from toy.settings import NoisyRecall
from training import loop as training
from training.checkpoint import CheckpointError, Store
from training.loop import Measurement, NonFiniteError, State, Trainer


def main(config: NoisyRecall, place: Place) -> None:
    """Settings in, run directory out."""
    setup = build(config)
    trainer = setup.trainer()
    directory = open_run(place.out, config, overwrite=place.overwrite)
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


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    config = read_config(out)
    directory = RunDirectory(Path(out))
    arrays = directory.read_arrays()
    if not any(name.startswith("final/") for name in arrays):
        raise UserError(f"--out={out} is not finished: it has no final figures yet")
    for name, figure in figures_recall.draw(arrays, config["alpha"]):
        print(directory.save_figure(figure, name))


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
            stop.check()
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
