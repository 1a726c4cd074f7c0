"""Figures of truncate: curves over rho, along training, what each part says, who flips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.experiments.truncate.settings import Truncate
from truncated_weights.training.records import Records, rows_of

Rows = Sequence[Mapping[str, Any]]
KINDS = (("p_correct", "correct"), ("p_noise", "noise"))
PARTS = {"full": "nothing removed", "kept": "what is kept", "removed": "what is removed"}
SIDES = {"": "kept", "-": "dropped"}


def figures(config: Truncate, records: Records) -> Iterator[Figure]:
    """Every figure that there is something for."""
    if matrices := curve_matrices(records):
        panels = [curve(records, matrix, sign) for sign in SIDES for matrix in matrices]
        width = max(3.5, min(7.5, 1.9 * len(matrices) + 0.6))
        yield Figure("curves", panels, len(matrices), 2.4, width, lettered=False)
    if records.models.sizes["step"] > 1:
        yield Figure("along", [along(records, *kind) for kind in KINDS], columns=2)
    if rows := rows_of(records.parts):
        names = list(dict.fromkeys(row["intervention"] for row in rows))
        height = max(1.6, 1.0 + 0.24 * len(names))
        panels = [parts(rows, part, first=part == "full") for part in PARTS]
        yield Figure("parts", panels, height=height, after=_legend(2))
    if rows := rows_of(records.components):
        panels = list(components(rows))
        columns = 4 if len(panels) > 2 else 2
        width = max(3.5, 2.1 * len(panels))
        yield Figure("components", panels, len(panels), 2.6, width, _legend(columns))
    if rows := rows_of(records.flips):
        panels = list(flips(rows))
        width = max(3.5, 0.95 * len(panels))
        yield Figure("flips", panels, len(panels) // 2, 2.1, width, _legend(2), lettered=False)


def curve(records: Records, matrix: str, sign: str) -> Panel:
    """p(correct), p(noise) at the last checkpoint, the largest components kept or dropped (-)."""
    rhos, models = zip(*_points(records, matrix, sign), strict=True)
    clean = records.models.sel(set="clean", model=list(models)).isel(step=-1)
    at = np.array(rhos)

    def draw(axes: Axes) -> None:
        for metric, kind in KINDS:
            values = clean[metric].transpose("model", "seed").values
            style.band(
                axes, at, values, label=f"p({kind})", color=COLOURS[kind], marker="o", ms=2.5
            )
        axes.axhline(records.models.attrs["alpha"], color="0.7", lw=0.8, zorder=0)
        smallest = at[at > 0].min() if np.any(at > 0) else 1.0
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.4)
        ticks = [t for t in (0.0, 0.01, 0.1, 1.0) if t == 0 or t >= smallest]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xlim(-0.3 * smallest, 1.2)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(f"largest fraction {SIDES[sign]}")
        axes.set_ylabel("probability, clean")

    caption = (
        f"p(correct) and p(noise) of clean sequences at the last checkpoint, against the fraction "
        f"of the largest components of {matrix} that is {SIDES[sign]}; the line is alpha."
    )
    return Panel(f"{SIDES[sign]}-{matrix}", f"{matrix} {SIDES[sign]}", draw, caption)


def along(records: Records, metric: str, kind: str) -> Panel:
    """The full model and the cuts looked into along the checkpoints, on clean sequences."""
    clean = records.models[metric].sel(set="clean").transpose("step", "seed", "model")
    steps = np.maximum(clean.step.values, 0.5)
    chosen = [row["intervention"] for row in rows_of(records.factors)]
    models = ("full", *chosen) if chosen else tuple(map(str, clean.model.values))

    def draw(axes: Axes) -> None:
        for colour, model in zip((COLOURS["neutral"], *CYCLE), models, strict=False):
            style.band(
                axes, steps, clean.sel(model=model).values, label=model, color=colour,
                ls="--" if model == "full" else "-", marker="o", ms=2.5,
            )  # fmt: skip
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel(f"p({kind}), clean")
        style.step_axis(axes)

    ends = clean.isel(step=-1).mean("seed")
    told = ", ".join(f"{m} {float(ends.sel(model=m)):.2f}" for m in models[: len(CYCLE) + 1])
    caption = f"p({kind}) on clean sequences against the training step; it ends at: {told}."
    return Panel(f"along-{metric}", f"p({kind}) of the cuts", draw, caption)


def parts(rows: Rows, part: str, *, first: bool) -> Panel:
    """p(correct) and p(noise) of the whole, of what is kept or of what is removed, alone.

    first: whether cuts are named beside it.
    """
    own = {row["intervention"]: row for row in rows if row["part"] == part}

    def draw(axes: Axes) -> None:
        for metric, kind in KINDS:
            # A part that alone leaves the finite numbers has no dot.
            known = [
                (row[metric], -i) for i, row in enumerate(own.values()) if row[metric] is not None
            ]
            values, places = zip(*known, strict=True) if known else ((), ())
            axes.plot(values, places, "o", ms=5, color=COLOURS[kind], label=f"p({kind})")
        axes.set_yticks([-i for i in range(len(own))], list(own) if first else [""] * len(own))
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-len(own) + 0.5, 0.5)
        axes.grid(axis="y", color="0.92", lw=0.6)
        axes.set_xlabel("probability, clean")

    caption = f"p(correct) and p(noise) on clean sequences of every cut's model: {PARTS[part]}."
    return Panel(f"part-{part}", PARTS[part], draw, caption, legend=0)


def components(rows: Rows) -> Iterator[Panel]:
    """What each removed component adds to logits at the mean input: its five tokens, the rest.

    A panel for each matrix of a cut, four at most.
    """
    keys = [(row["intervention"], row["layer"], row["matrix"]) for row in rows]
    for place, key in enumerate(list(dict.fromkeys(keys))[:4]):
        own = [row for row, its in zip(rows, keys, strict=True) if its == key]
        intervention, matrix = key[0], f"{key[1]}.{key[2]}"
        # A group or a sum of cuts has a panel for each of its matrices.
        alone = intervention.partition("@")[0] == matrix
        title = intervention if alone else f"{intervention}: {matrix}"
        yield _component(own, title, first=place == 0)


def _component(rows: Rows, title: str, *, first: bool) -> Panel:
    def draw(axes: Axes) -> None:
        # Components of little strength move every logit by next to nothing, whatever they say.
        for place, row in enumerate(rows):
            axes.hlines(
                -place, *(row["strength"] * end for end in row["middle"]), color="0.75", lw=4
            )
            for token, logit in zip(row["tokens"], row["logits"], strict=True):
                kind = "noise" if token == "noise" else "correct"
                axes.plot(row["strength"] * logit, -place, "o", ms=3.5, color=COLOURS[kind])
            axes.annotate(
                row["tokens"][0], (row["strength"] * row["logits"][0], -place), (4, 0),
                textcoords="offset points", va="center", fontsize=6,
            )  # fmt: skip
        # Near-equal values: only the space of all of them means something.
        labels = [f"{row['component']}{'*' if row['near'] else ''}" for row in rows]
        axes.set_yticks([-i for i in range(len(rows))], labels)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.margins(x=0.15)
        axes.set_xlabel("added to a token's logit")
        if first:
            axes.set_ylabel("removed component")
        for kind, label in (("noise", "noise token"), ("correct", "another token")):
            axes.plot([], [], "o", ms=3.5, color=COLOURS[kind], label=label)
        axes.plot([], [], color="0.75", lw=4, label="5 to 95 % of tokens")
        if any(row["near"] for row in rows):
            axes.plot([], [], " ", label="* near-equal singular values")

    caption = (
        f"What each component that {title} removes adds to the logits of its five highest tokens "
        "at the mean input, and where 5 to 95 % of all tokens lie."
    )
    return Panel(f"components-{title}", title, draw, caption, legend=0)


def flips(rows: Rows) -> Iterator[Panel]:
    """Share of answers that flip each way, by noise and by correct tokens seen in the context.

    A row of panels for each of the two, of four cuts at most.
    """
    names = list(dict.fromkeys(row["intervention"] for row in rows))[:4]
    for covariate in ("noise_in_context", "correct_in_context"):
        for place, name in enumerate(names):
            own = [
                row for row in rows
                if (row["intervention"], row["covariate"]) == (name, covariate)
                and row["answers"] >= 20
            ]  # fmt: skip
            yield _flips(own, name, covariate, first=place == 0)


def _flips(rows: Rows, name: str, covariate: str, *, first: bool) -> Panel:
    levels = [row["level"] for row in rows]
    seen = f"{covariate.removesuffix('_in_context')} tokens in context"

    def draw(axes: Axes) -> None:
        for way, kind in (("wrong_to_right", "correct"), ("right_to_wrong", "noise")):
            centre = np.array([row[way] for row in rows])
            reach = [
                np.maximum(centre - [row[f"{way}_low"] for row in rows], 0),
                np.maximum([row[f"{way}_high"] for row in rows] - centre, 0),
            ]
            axes.errorbar(
                levels, centre, yerr=reach, fmt="o-", ms=3, lw=1, capsize=1.5,
                color=COLOURS[kind], label=way.replace("_to_", " to "),
            )  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(seen)
        if first:
            axes.set_ylabel("share of answers, noisy")

    caption = f"Share of answers on noisy sequences that {name} flips each way, by {seen}."
    return Panel(f"flips-{name}-{covariate}", name, draw, caption, legend=0)


def curve_matrices(records: Records) -> list[str]:
    """LAYER.MATRIX with at least three points kept and three dropped."""
    found = dict.fromkeys(m.split("@")[0] for m in _models(records) if m.count("@") == 1)
    return [m for m in found if all(len(_points(records, m, sign)) > 2 for sign in SIDES)]


def _models(records: Records) -> list[str]:
    return list(map(str, records.models.model.values))


def _points(records: Records, matrix: str, sign: str) -> list[tuple[float, str]]:
    """(rho, model) of the plain cuts of one sign; -0 and 1 are the whole matrix."""
    points = []
    for model in _models(records):
        head, _, rho = model.partition("@")
        if head != matrix or ":" in rho or rho == "auto" or "+" in model:
            continue
        if rho.startswith("-") == (sign == "-"):
            points.append((float(rho.removeprefix("-")), model))
        elif sign == "-" and rho == "1":
            points.append((0.0, model))
    return sorted(set(points))


def _legend(columns: int) -> Callable[[mpl_figure.Figure], None]:
    """One legend for all panels, each label once."""

    def after(canvas: mpl_figure.Figure) -> None:
        found: dict[str, Any] = {}
        for axes in canvas.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        canvas.legend(found.values(), found, loc="outside lower center", ncols=columns)

    return after
