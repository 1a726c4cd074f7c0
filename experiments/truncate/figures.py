"""Figures of truncate: curves over rho, along training, what each part says, who flips."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from training import seeds

Arrays = Mapping[str, np.ndarray]
Rows = Sequence[Mapping[str, Any]]
KINDS = (("p_correct", "correct"), ("p_noise", "noise"))


def draw(arrays: Arrays, details: Mapping[str, Rows], alpha: float) -> Iterator[tuple[str, Figure]]:
    """Every figure there is something for, with its name, of the seeds that were not lost."""
    arrays = seeds.surviving(arrays)
    if _curve_matrices(arrays):
        yield "curves", curves(arrays, alpha)
    if len(arrays["steps"]) > 1:
        yield "along", along(arrays)
    yield "parts", parts(details["parts"])
    if details["components"]:
        yield "components", components(details["components"])
    yield "flips", flips(details["flips"])


def curves(arrays: Arrays, alpha: float) -> Figure:
    """p(correct) and p(noise) against rho: top row keeps the largest, bottom row drops them."""
    names = _curve_matrices(arrays)
    canvas, panels = style.figure(
        2, len(names), width=max(3.5, min(7.5, 1.9 * len(names) + 0.6)), height=2.0
    )
    for column, name in enumerate(names):
        for row, (sign, label) in enumerate((("", "kept"), ("-", "dropped"))):
            axes = panels[row, column]
            _curve(axes, arrays, name, sign, alpha)
            axes.set_xlabel(f"largest fraction {label}")
            if column == 0:
                axes.set_ylabel("probability, clean")
            if row == 0:
                axes.set_title(name, loc="left")
    panels[0, 0].legend(loc="best")
    return canvas


def along(arrays: Arrays) -> Figure:
    """Every intervention along the checkpoints, on clean sequences."""
    steps = np.maximum(arrays["steps"], 0.5)
    names = [n for n in _models(arrays) if not _is_curve(arrays, n)] or _models(arrays)[:7]
    canvas, (axes_row,) = style.figure(1, 2, height=2.9)
    for axes, (metric, kind) in zip(axes_row, KINDS, strict=True):
        for colour, name in zip((COLOURS["neutral"], *CYCLE), names, strict=False):
            style.band(
                axes, steps, arrays[f"clean/{name}/{metric}"], label=name, color=colour,
                ls="--" if name == "full" else "-", marker="o", ms=2.5,
            )  # fmt: skip
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel(f"p({kind}), clean")
        style.step_axis(axes)
        style.legend_below(axes)
    return canvas


def parts(rows: Rows) -> Figure:
    """p(correct) and p(noise) of the whole, of what is kept and of what is removed, alone."""
    names = list(dict.fromkeys(row["intervention"] for row in rows))
    canvas, (axes_row,) = style.figure(1, 3, height=max(1.6, 0.8 + 0.24 * len(names)))
    for axes, part in zip(axes_row, ("full", "kept", "removed"), strict=True):
        for index, name in enumerate(names):
            row = next(r for r in rows if r["intervention"] == name and r["part"] == part)
            for metric, kind in KINDS:
                axes.plot(
                    # A part that alone leaves the finite numbers has None, and no dot.
                    [] if row[metric] is None else row[metric],
                    [] if row[metric] is None else -index,
                    "o", ms=5, color=COLOURS[kind],
                    label=f"p({kind})" if index == 0 else None,
                )  # fmt: skip
        axes.set_yticks(
            [-i for i in range(len(names))], names if part == "full" else [""] * len(names)
        )
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-len(names) + 0.5, 0.5)
        axes.grid(axis="y", color="0.92", lw=0.6)
        axes.set_xlabel("probability, clean")
        title = {"full": "nothing removed", "kept": "what is kept", "removed": "what is removed"}
        style.panel(axes, "abc"[("full", "kept", "removed").index(part)], title[part])
    axes_row[0].legend(loc="upper left")
    return canvas


def components(rows: Rows) -> Figure:
    """What each removed component adds to logits at the mean input: its five tokens, the rest."""
    names = list(dict.fromkeys((row["intervention"], row["layer"], row["matrix"]) for row in rows))[
        :4
    ]
    # Components of little strength move every logit by next to nothing, whatever they say.
    canvas, (axes_row,) = style.figure(1, len(names), width=max(3.5, 2.1 * len(names)), height=2.6)
    for letter, axes, name in zip("abcd", axes_row, names, strict=False):
        own = [r for r in rows if (r["intervention"], r["layer"], r["matrix"]) == name]
        for place, row in enumerate(own):
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
        labels = [f"{r['component']}{'*' if r['near'] else ''}" for r in own]
        axes.set_yticks([-i for i in range(len(own))], labels)
        axes.set_ylim(-len(own) + 0.4, 0.6)
        axes.margins(x=0.15)
        # A group or a sum of cuts has a panel for each of its matrices.
        matrix = f"{name[1]}.{name[2]}"
        alone = name[0].partition("@")[0] == matrix
        style.panel(axes, letter, name[0] if alone else f"{name[0]}: {matrix}")
        axes.set_xlabel("added to a token's logit")
    axes_row[0].set_ylabel("removed component")
    for kind, label in (("noise", "noise token"), ("correct", "another token")):
        axes_row[0].plot([], [], "o", ms=3.5, color=COLOURS[kind], label=label)
    axes_row[0].plot([], [], color="0.75", lw=4, label="5 to 95 % of tokens")
    if any(row["near"] for row in rows):
        axes_row[0].plot([], [], " ", label="* near-equal singular values")
    handles, texts = axes_row[0].get_legend_handles_labels()
    columns = 4 if len(names) > 2 else 2
    canvas.legend(handles, texts, loc="outside lower center", ncols=columns)
    return canvas


def flips(rows: Rows) -> Figure:
    """Share of answers that flip each way, by noise and correct tokens seen in the context."""
    names = list(dict.fromkeys(row["intervention"] for row in rows))[:4]
    canvas, panels = style.figure(2, len(names), width=max(3.5, 1.9 * len(names)), height=2.0)
    labels = {
        "noise_in_context": "noise tokens in context",
        "correct_in_context": "correct tokens in context",
    }
    ways = (("wrong_to_right", "correct"), ("right_to_wrong", "noise"))
    for column, name in enumerate(names):
        for line, (covariate, label) in enumerate(labels.items()):
            axes = panels[line, column]
            found = [
                r
                for r in rows
                if r["intervention"] == name and r["covariate"] == covariate and r["answers"] >= 20
            ]
            levels = [r["level"] for r in found]
            for way, kind in ways:
                centre = np.array([r[way] for r in found])
                reach = [
                    np.maximum(centre - [r[f"{way}_low"] for r in found], 0),
                    np.maximum([r[f"{way}_high"] for r in found] - centre, 0),
                ]
                axes.errorbar(
                    levels, centre, yerr=reach, fmt="o-", ms=3, lw=1, capsize=1.5,
                    color=COLOURS[kind], label=way.replace("_to_", " to "),
                )  # fmt: skip
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel(label)
            if line == 0:
                axes.set_title(name, loc="left")
            if column == 0:
                axes.set_ylabel("share of answers, noisy")
    panels[0, 0].legend(loc="best")
    return canvas


def _models(arrays: Arrays) -> list[str]:
    names = [n.split("/") for n in arrays if n.startswith("clean/") and n.endswith("/p_correct")]
    return [parts[1] for parts in names]


def _curve_matrices(arrays: Arrays) -> list[str]:
    """LAYER.MATRIX with at least three points kept and three dropped."""
    found = dict.fromkeys(n.split("@")[0] for n in _models(arrays) if n.count("@") == 1)
    return [m for m in found if all(len(_points(arrays, m, sign)) > 2 for sign in ("", "-"))]


def _is_curve(arrays: Arrays, name: str) -> bool:
    return name.split("@")[0] in _curve_matrices(arrays)


def _points(arrays: Arrays, matrix: str, sign: str) -> list[tuple[float, str]]:
    """(rho, name) of the plain cuts of one sign; -0 and 1 are the whole matrix."""
    points = []
    for name in _models(arrays):
        head, _, rho = name.partition("@")
        if head != matrix or ":" in rho or rho == "auto" or "+" in name:
            continue
        if rho.startswith("-") == (sign == "-"):
            points.append((float(rho.removeprefix("-")), name))
        elif sign == "-" and rho == "1":
            points.append((0.0, name))
    return sorted(set(points))


def _curve(axes: Axes, arrays: Arrays, matrix: str, sign: str, alpha: float) -> None:
    points = _points(arrays, matrix, sign)
    rhos = np.array([rho for rho, _ in points])
    for metric, kind in KINDS:
        values = np.stack([arrays[f"clean/{name}/{metric}"][-1] for _, name in points])
        style.band(axes, rhos, values, label=f"p({kind})", color=COLOURS[kind], marker="o", ms=2.5)
    axes.axhline(alpha, color="0.7", lw=0.8, zorder=0)
    smallest = rhos[rhos > 0].min() if np.any(rhos > 0) else 1.0
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.4)
    ticks = [t for t in (0.0, 0.01, 0.1, 1.0) if t == 0 or t >= smallest]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlim(-0.3 * smallest, 1.2)
    axes.set_ylim(-0.02, 1.02)
