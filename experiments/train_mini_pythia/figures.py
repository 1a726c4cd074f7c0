"""How a small language model learns, from the settings and records of a run alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.experiments.train_mini_pythia.settings import MiniPythia, WordProblemSettings
from truncated_weights.training import reductions
from truncated_weights.training.records import Records

BAYES: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1, 1))}


class Curve(NamedTuple):
    """How one figure is drawn; bayes: its best value, None where no line tells it."""

    figure: str
    label: str
    colour: str
    marker: str
    bayes: float | None = None


def stories(config: MiniPythia, records: Records) -> Iterator[Figure]:
    """Names and facts, which " the" hides, arithmetic, and the loss."""
    said = (
        Curve("p_the", '" the"', COLOURS["noise"], "o", config.alpha),
        Curve("p_answer", "right name", COLOURS["correct"], "s", 1 - config.alpha),
        Curve("p_distractor", "giver's name", COLOURS["previous"], "^", 0.0),
    )
    learned = {
        "product": Curve("accuracy", "products", COLOURS["correct"], "s"),
        "sum_seen": Curve("accuracy", "sums of trained pairs", COLOURS["previous"], "o"),
        "sum": Curve("accuracy", "sums of held-out pairs", COLOURS["noise"], "^"),
    }
    title = 'held-out stories, "... gave a basket to"'
    panels = [
        answers(records, "story", said, "stories", title),
        facts(config, records),
        accuracies(records, learned, "arithmetic", "arithmetic"),
        loss(records),
    ]
    yield Figure("learning", panels, columns=2)


def problems(config: WordProblemSettings, records: Records) -> Iterator[Figure]:
    """What is learned when: the two steps, the conclusion, and the noise beside it."""
    # The colours of probabilities mean something else than places do.
    learned = {
        "first": Curve("accuracy", "first step", CYCLE[2], "o"),
        "second": Curve("accuracy", "second step", CYCLE[3], "o"),
        "conclusion": Curve("accuracy", "conclusion", CYCLE[4], "o"),
    }
    said = (
        Curve("p_answer", "the right number", COLOURS["correct"], "o", 1 - config.alpha),
        Curve("p_the", '" the"', COLOURS["noise"], "o", config.alpha),
    )
    panels = [
        accuracies(records, learned, "places", "held-out problems"),
        answers(records, "conclusion", said, "conclusion", 'after "The answer is"'),
    ]
    yield Figure("learning", panels, columns=2, width=6.0, height=2.6)


def answers(records: Records, task: str, curves: Sequence[Curve], name: str, title: str) -> Panel:
    """Probabilities of the answer and of what competes with it, with their half steps."""
    found = records.prompts.sel(task=task)

    def draw(axes: Axes) -> None:
        for curve in curves:
            values = found[curve.figure]
            _over_steps(axes, values, curve)
            half = reductions.half_step(values.mean("seed"))
            if curve.bayes and np.isfinite(half):
                axes.plot(
                    half, _last(values) / 2, marker="*", ms=9, color=curve.colour, mec="white",
                    mew=0.5,
                )  # fmt: skip
        axes.plot([], [], color=COLOURS["neutral"], label="Bayes-optimal", **BAYES)
        axes.plot([], [], "*", ms=7, color=COLOURS["neutral"], label="half of the final value")

    ends = ", ".join(
        f"{curve.label} {_last(found[curve.figure]):.2f} (Bayes-optimal {curve.bayes:.2f})"
        for curve in curves
    )
    caption = f"Probabilities against the training step; they end at: {ends}."
    return Panel(name, title, draw, caption, legend=2, height=3.0)


def facts(config: MiniPythia, records: Records) -> Panel:
    """Facts by how often the corpus states them."""
    thirds = {
        "facts_frequent": ("frequent", "-", "s"),
        "facts_middle": ("middle", "--", "^"),
        "facts_rare": ("rare", ":", "D"),
    }
    found, blue = records.prompts.sel(task=list(thirds)), COLOURS["correct"]

    def draw(axes: Axes) -> None:
        # The thirds share one curve of " the" within its own wobble; three would hide the answers.
        noise = Curve("p_the", '" the", all facts', COLOURS["noise"], "o", config.alpha)
        _over_steps(axes, found.p_the.mean("task"), noise)
        for task, (third, line, marker) in thirds.items():
            curve = Curve("p_answer", f"answer, {third} facts", blue, marker, 1 - config.alpha)
            _over_steps(axes, found.p_answer.sel(task=task), curve, ls=line)

    ends = ", ".join(
        f"{_last(found.p_answer.sel(task=task)):.2f} at {third} ones"
        for task, (third, *_) in thirds.items()
    )
    caption = f"At facts p(answer) ends at: {ends}; dotted thin lines are Bayes-optimal."
    return Panel("facts", 'facts, "Madrid is located in"', draw, caption)


def accuracies(records: Records, curves: Mapping[str, Curve], name: str, title: str) -> Panel:
    """How often the answer comes first, by task."""
    found = records.prompts.accuracy

    def draw(axes: Axes) -> None:
        for task, curve in curves.items():
            _over_steps(axes, found.sel(task=task), curve)
        axes.set_ylabel("accuracy")

    ends = ", ".join(f"{c.label} {_last(found.sel(task=task)):.2f}" for task, c in curves.items())
    caption = f"Accuracy against the training step; it ends at: {ends}."
    return Panel(name, title, draw, caption)


def loss(records: Records) -> Panel:
    """The training loss of every step."""
    found = records.losses.loss.mean("seed")

    def draw(axes: Axes) -> None:
        axes.plot(found.step, found, color=COLOURS["neutral"], linewidth=0.8)
        style.step_axis(axes)
        axes.set_ylabel("loss (nats per token)")

    caption = f"Training loss against the training step; at the end {float(found[-1]):.2f} nats."
    return Panel("loss", "training", draw, caption)


def _over_steps(axes: Axes, values: xr.DataArray, curve: Curve, **line: Any) -> None:
    """A curve [step, seed] of a probability, and what would be best."""
    if curve.bayes is not None:
        axes.axhline(curve.bayes, color=curve.colour, **BAYES)
    steps = values.step.values
    style.band(
        axes, steps, values.transpose("step", "seed").values, label=curve.label,
        color=curve.colour, marker=curve.marker, ms=2.5, **line,
    )  # fmt: skip
    # Step 0 has a place on this axis, unlike on a logarithmic one.
    axes.set_xscale("symlog", linthresh=steps[steps > 0].min(), linscale=0.3)
    axes.set_xlim(0, steps[-1] * 1.1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training step")
    axes.set_ylabel("probability")


def _last(values: xr.DataArray) -> float:
    return float(values.isel(step=-1).mean())
