"""Figures of a noisy-recall run, from its saved arrays alone."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from training import seeds
from truncation.notation import MATRICES

Arrays = Mapping[str, np.ndarray]


def draw(arrays: Arrays, alpha: float) -> Iterator[tuple[str, Figure]]:
    """Every figure of a run, with its name."""
    yield from at_the_end(arrays, alpha)
    yield from along_training(arrays)


def at_the_end(arrays: Arrays, alpha: float) -> Iterator[tuple[str, Figure]]:
    """The figures that show what the last weights do, cut and uncut, of the seeds not lost."""
    arrays = seeds.surviving(arrays)
    yield "recall", overview(arrays, alpha)
    if _curve_matrices(arrays):
        yield "truncation", truncation_curves(arrays, alpha)


def along_training(arrays: Arrays) -> Iterator[tuple[str, Figure]]:
    """The figures that need nothing but what was recorded while training, of seeds not lost."""
    arrays = seeds.surviving(arrays)
    if "bigrams/bigram/loss" in arrays:
        yield "bigrams", bigrams(arrays)
    yield "mechanisms", mechanisms(arrays)
    yield "spectra", spectra(arrays)


def overview(arrays: Arrays, alpha: float) -> Figure:
    """The central figure: noise first, then recall; and what truncation leaves of each."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.9)
    for metric, name in (("p_correct", "correct"), ("p_noise", "noise")):
        _band(left, arrays, f"models/clean/full/{metric}", f"p({name})", COLOURS[name])
    _band(
        left, arrays, "models/noisy/full/attention_correct", "attention to correct",
        COLOURS["correct"], ls=":",
    )  # fmt: skip
    _band(
        left, arrays, "models/noisy/full/attention_noise", "attention to noise",
        COLOURS["noise"], ls=":",
    )  # fmt: skip
    left.axhline(alpha, color="0.7", lw=0.8, zorder=0)
    left.annotate(r"$\alpha$", (1, alpha), xycoords=("axes fraction", "data"), fontsize=7)
    _probability(left)
    style.step_axis(left)
    style.legend_below(left, 1)
    style.panel(left, "a", "full model, learning")

    for colour, name in zip(CYCLE, _followed(arrays), strict=False):
        _band(middle, arrays, f"models/clean/{name}/p_correct", name, colour)
    _band(middle, arrays, "models/clean/full/p_correct", "full", COLOURS["neutral"], ls="--")
    _probability(middle, "p(correct), clean")
    style.step_axis(middle)
    style.legend_below(middle)
    style.panel(middle, "b", "truncated, along training")

    shown = _curve_matrices(arrays)
    if not shown:
        right.set_visible(False)
        return canvas
    chosen = next((m for m in shown if m.endswith("fc_in") and not m.startswith("0.")), shown[-1])
    _curve(right, arrays, chosen, alpha, legend=False)
    style.legend_below(right, 1)
    style.panel(right, "c", f"truncating {chosen}, at the end")
    return canvas


def truncation_curves(arrays: Arrays, alpha: float) -> Figure:
    """p(correct) and p(noise) against the fraction of rank kept, one panel per matrix."""
    names = _curve_matrices(arrays)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    canvas, panels = style.figure(rows, columns, height=1.9)
    for index, axes in enumerate(panels.flat):
        if index >= len(names):
            axes.set_visible(False)
            continue
        _curve(axes, arrays, names[index], alpha, legend=index == 0)
        style.panel(axes, "abcdefghijklmnop"[index], names[index])
    return canvas


def mechanisms(arrays: Arrays) -> Figure:
    """Memory recalls, feed-forward margins, and who contributes to the noise margin."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.9)
    labels = {
        "previous_token": "previous token (0.k_proj)",
        "induction": "induction (last k_proj)",
        "copy": "copy (last ov)",
    }
    for colour, (name, label) in zip(CYCLE, labels.items(), strict=False):
        if f"mechanisms/recall/{name}" in arrays:
            _band(left, arrays, f"mechanisms/recall/{name}", label, colour)
    if "models/noisy/full/attention_previous" in arrays:
        _band(
            left, arrays, "models/noisy/full/attention_previous",
            "attention to previous", COLOURS["neutral"], ls=":",
        )  # fmt: skip
    _probability(left, "accuracy or mass")
    style.panel(left, "a", "memory recalls")
    prefix = "mechanisms/feed_forward_margin/"
    for colour, name in zip(CYCLE, [n for n in arrays if n.startswith(prefix)], strict=False):
        _band(middle, arrays, name, f"feed-forward {name.removeprefix(prefix)}", colour)
    middle.set_ylabel("logit(noise) - best other")
    style.panel(middle, "b", "feed-forwards at the trigger")
    prefix = "models/clean/full/margin/"
    for colour, name in zip(CYCLE, [n for n in arrays if n.startswith(prefix)], strict=False):
        label = name.removeprefix(prefix).replace("feed_forward_", "feed-forward ")
        _band(right, arrays, name, label.replace("attention_", "attention "), colour)
    right.set_ylabel("logit(noise) - logit(correct)")
    style.panel(right, "c", "direct logit attribution")
    for axes in (left, middle, right):
        style.step_axis(axes)
        style.legend_below(axes, 1 if axes is left else 2)
    for axes in (middle, right):
        axes.axhline(0, color="0.7", lw=0.8, zorder=0)
    return canvas


def bigrams(arrays: Arrays) -> Figure:
    """Which part holds the bigrams, and whether recall reaches outputs that were never trained."""
    unseen = "models/heldout/full/p_correct" in arrays
    canvas, panels = style.figure(1, 3 if unseen else 2, height=2.9)
    left, middle = panels.flat[:2]
    shown = {
        "loss": ("full", COLOURS["neutral"], "--"),
        "without_last_attention": ("without last attention", CYCLE[0], "-"),
        "without_feed_forward_0": ("without feed-forward 0", CYCLE[1], "-"),
        "without_feed_forward_1": ("without feed-forward 1", CYCLE[2], "-"),
        "without_feed_forwards": ("without feed-forwards", CYCLE[3], "-"),
    }
    for name, (label, colour, line) in shown.items():
        if f"bigrams/bigram/{name}" in arrays:
            _band(left, arrays, f"bigrams/bigram/{name}", label, colour, ls=line)
    if "bigrams/bigram/entropy" in arrays:
        _floor(left, float(seeds.mean(arrays["bigrams/bigram/entropy"].ravel())), "entropy", "left")
    left.set_ylabel("nats per token")
    style.panel(left, "a", "loss away from triggers")
    prefix = "mechanisms/bigram_kl/"
    found = [n for n in arrays if n.startswith(prefix) and n.removeprefix(prefix).isdigit()]
    for colour, name in zip(CYCLE[1:], found, strict=False):
        _band(middle, arrays, name, f"feed-forward {name.removeprefix(prefix)}", colour)
    if f"{prefix}uniform" in arrays:
        _floor(
            middle, float(seeds.mean(arrays[f"{prefix}uniform"].ravel())), "saying nothing", "right"
        )
    middle.set_ylabel("KL to the bigram law, nats")
    style.panel(middle, "b", "what each feed-forward says")
    if unseen:
        _held_out(panels.flat[2], arrays)
    for axes in panels.flat:
        style.step_axis(axes)
        style.legend_below(axes, 1)
    return canvas


def _held_out(axes: Axes, arrays: Arrays) -> None:
    """p(correct) where the output is one of those trained on, and where it is not."""
    names = ["full", *(n for n in _followed(arrays) if n in ("1.mlp@0", "1.fc_in@0"))]
    for colour, name in zip((COLOURS["neutral"], CYCLE[0]), names, strict=False):
        for part, line, told in (("clean", "-", "trained"), ("heldout", ":", "never trained")):
            label = f"{name}, outputs {told}"
            _band(axes, arrays, f"models/{part}/{name}/p_correct", label, colour, ls=line)
    _probability(axes, "p(correct), clean")
    style.panel(axes, "c", "outputs held out")


def _floor(axes: Axes, value: float, label: str, side: str) -> None:
    axes.axhline(value, color="0.7", lw=0.8, zorder=0)
    place = ({"left": 0.02, "right": 0.99}[side], value)
    axes.annotate(
        label, place, xycoords=("axes fraction", "data"), fontsize=7, va="bottom", ha=side
    )


def spectra(arrays: Arrays) -> Figure:
    """Singular values along training; a disc's area is its share of the noise direction."""
    # Square points of a disc whose singular direction is the noise's own.
    whole = 40
    prefix, suffix = "spectra/spectrum/", "/singular_values"
    found = [
        n.removeprefix(prefix).removesuffix(suffix)
        for n in arrays
        if n.startswith(prefix) and n.endswith(suffix)
    ]
    layers = sorted({name.split(".")[0] for name in found})
    order = [m for m in MATRICES if any(name.endswith(f".{m}") for name in found)]
    canvas, panels = style.figure(len(layers), len(order), height=1.9)
    steps = np.maximum(arrays["spectra/steps"], 0.5)
    for row, layer in zip(panels, layers, strict=True):
        for axes, matrix in zip(row, order, strict=True):
            name = f"{layer}.{matrix}"
            if name not in found:
                axes.set_visible(False)
                continue
            values = seeds.mean(arrays[f"{prefix}{name}{suffix}"], axis=1)
            axes.plot(steps, values, color="0.75", lw=0.5, zorder=0)
            share = arrays.get(f"{prefix}{name}/noise_share")
            if share is not None:
                times = np.repeat(steps, values.shape[1])
                area = whole * seeds.mean(share, axis=1).ravel()
                axes.scatter(
                    times, values.ravel(), s=area, color=COLOURS["noise"], lw=0, rasterized=True
                )
            axes.set_title(name, loc="left")
            # A seed on the brink has singular values beyond the finite numbers before it is lost.
            axes.set_ylim(0, values.max(initial=1e-6, where=np.isfinite(values)) * 1.12)
            style.step_axis(axes)
        row[0].set_ylabel("singular value")
    if any(name.endswith("/noise_share") for name in arrays):
        shares = {
            f"{share:g}": canvas.axes[0].scatter(
                [], [], s=whole * share, color=COLOURS["noise"], lw=0
            )
            for share in (1, 0.5, 0.1)
        }
        canvas.legend(
            shares.values(), shares, loc="outside lower center", ncols=3,
            title="share of the noise direction",
        )  # fmt: skip
    return canvas


def _steps(arrays: Arrays, group: str) -> np.ndarray:
    return arrays[f"{group}/steps"]


def _band(axes: Axes, arrays: Arrays, name: str, label: str, colour: str, **line: object) -> None:
    steps = _steps(arrays, name.split("/", 1)[0])
    later = steps > 0
    style.band(axes, steps[later], arrays[name][later], label=label, color=colour, **line)


def _probability(axes: Axes, label: str = "probability or mass, clean") -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(label)


def _followed(arrays: Arrays) -> list[str]:
    names = [
        name.removeprefix("models/clean/").removesuffix("/p_correct")
        for name in arrays
        if name.startswith("models/clean/") and name.endswith("/p_correct")
    ]
    return [name for name in names if name != "full"][: len(CYCLE)]


def _curve_matrices(arrays: Arrays) -> list[str]:
    """LAYER.MATRIX that have a curve over rho, last layer first."""
    found = dict.fromkeys(
        name.removeprefix("final/clean/").split("@")[0]
        for name in arrays
        if name.startswith("final/clean/") and name.count("@") == 1 and "+" not in name
    )
    whole = [m for m in found if len(_curve_points(arrays, m)) > 2]
    return sorted(whole, key=lambda m: (-int(m.split(".")[0]), list(found).index(m)))


def _curve_points(arrays: Arrays, matrix: str) -> list[tuple[float, str]]:
    prefix = f"final/clean/{matrix}@"
    texts = {name.removeprefix(prefix).split("/")[0] for name in arrays if name.startswith(prefix)}
    plain: Callable[[str], bool] = lambda t: t.replace(".", "", 1).isdigit()  # noqa: E731
    return sorted((float(text), text) for text in texts if plain(text))


def _curve(axes: Axes, arrays: Arrays, matrix: str, alpha: float, *, legend: bool = True) -> None:
    points = _curve_points(arrays, matrix)
    rhos = np.array([rho for rho, _ in points])
    for metric, name in (("p_correct", "correct"), ("p_noise", "noise")):
        values = np.stack([arrays[f"final/clean/{matrix}@{t}/{metric}"] for _, t in points])
        style.band(axes, rhos, values, label=f"p({name})", color=COLOURS[name], marker="o", ms=2.5)
    axes.axhline(alpha, color="0.7", lw=0.8, zorder=0)
    # Linear below the smallest positive rho, so that rho = 0 has a place.
    smallest = rhos[rhos > 0].min() if np.any(rhos > 0) else 1.0
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.8)
    # Nothing is left of it: the room is for telling 0 from the smallest in a narrow panel.
    axes.set_xlim(-0.2 * smallest, 1.15)
    ticks = [t for t in (0.0, 0.01, 0.1, 1.0) if t == 0 or t >= smallest]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlabel("fraction of rank kept")
    _probability(axes, "probability, clean")
    if legend:
        axes.legend(loc="best")
