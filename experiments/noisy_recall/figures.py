"""Figures of a noisy-recall run, from its settings and records alone."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training.records import Records
from truncated_weights.truncation.notation import MATRICES

# Square points of a disc whose singular direction is the noise's own.
WHOLE_DISC = 40


def figures(config: NoisyRecall, records: Records) -> Iterator[Figure]:
    """Every figure of a run: first what needs nothing but what was recorded while training."""
    if "bigrams" in records:
        yield Figure("bigrams", list(bigrams(records)))
    panels = [recalls(records), attention(records), attribution(records), margins(records)]
    yield Figure("mechanisms", panels, columns=2)
    yield spectra(records.spectra)
    by_rank = {matrix: curve(config, records, matrix) for matrix in curves(records.final)}
    chosen = [m for m in by_rank if m.endswith("fc_in") and not m.startswith("0.")]
    shown = by_rank.get(next(iter(chosen), next(reversed(by_rank), "")))
    yield Figure("recall", [learning(config, records), truncated(records), shown])
    if by_rank:
        yield Figure("truncation", list(by_rank.values()), columns=4, height=1.9)


def learning(config: NoisyRecall, records: Records) -> Panel:
    """Noise first, then recall: the full model along training."""
    clean, noisy = (records.models.sel(set=part, model="full") for part in ("clean", "noisy"))

    def draw(axes: Axes) -> None:
        for metric, what in (("p_correct", "correct"), ("p_noise", "noise")):
            style.over_steps(axes, clean[metric], label=f"p({what})", color=COLOURS[what])
        for metric, what in (("attention_correct", "correct"), ("attention_noise", "noise")):
            label = f"attention to {what}"
            style.over_steps(axes, noisy[metric], label=label, color=COLOURS[what], ls=":")
        _alpha(axes, config.alpha)
        axes.annotate(r"$\alpha$", (1, config.alpha), xycoords=("axes fraction", "data"), size=7)
        _probability(axes)

    caption = (
        f"The noise is learned within steps and ends at {_last(clean.p_noise):.2f} on clean "
        f"sequences; recall is learned later and ends at {_last(clean.p_correct):.2f}."
    )
    return Panel("learning", "full model, learning", draw, caption, legend=1)


def truncated(records: Records) -> Panel:
    """The followed cuts along training."""
    clean = records.models.p_correct.sel(set="clean")

    def draw(axes: Axes) -> None:
        for colour, model in zip(CYCLE, _followed(records), strict=False):
            style.over_steps(axes, clean.sel(model=model), label=model, color=colour)
        full = clean.sel(model="full")
        style.over_steps(axes, full, label="full", color=COLOURS["neutral"], ls="--")
        _probability(axes, "p(correct), clean")

    ends = ", ".join(f"{m} {_last(clean.sel(model=m)):.2f}" for m in ("full", *_followed(records)))
    return Panel("truncated", "truncated, along training", draw, f"p(correct) ends at: {ends}.")


def curves(final: xr.Dataset) -> dict[str, list[tuple[float, str]]]:
    """LAYER.MATRIX -> (fraction kept, model) of those with a curve, last layer first."""
    found: dict[str, list[tuple[float, str]]] = {}
    for model in map(str, final.model.values):
        matrix, at, rho = model.partition("@")
        if at and "+" not in model and rho.replace(".", "", 1).isdigit():
            found.setdefault(matrix, []).append((float(rho), model))
    order = list(found)
    whole = [matrix for matrix in order if len(found[matrix]) > 2]
    whole.sort(key=lambda matrix: (-int(matrix.split(".")[0]), order.index(matrix)))
    return {matrix: sorted(found[matrix]) for matrix in whole}


def curve(config: NoisyRecall, records: Records, matrix: str) -> Panel:
    """p(correct) and p(noise) at the end against the fraction of rank of a matrix that is kept."""
    rhos, models = zip(*curves(records.final)[matrix], strict=True)
    clean = records.final.sel(set="clean", model=list(models))

    def draw(axes: Axes) -> None:
        for metric, what in (("p_correct", "correct"), ("p_noise", "noise")):
            values = clean[metric].transpose("model", "seed").values
            style.band(
                axes, np.array(rhos), values, label=f"p({what})", color=COLOURS[what],
                marker="o", ms=2.5,
            )  # fmt: skip
        _alpha(axes, config.alpha)
        # Linear below the smallest positive rho, so that rho = 0 has a place.
        smallest = min((rho for rho in rhos if rho > 0), default=1.0)
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.8)
        # Nothing is left of it: the room is for telling 0 from the smallest in a narrow panel.
        axes.set_xlim(-0.2 * smallest, 1.15)
        ticks = [t for t in (0.0, 0.01, 0.1, 1.0) if t == 0 or t >= smallest]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xlabel("fraction of rank kept")
        _probability(axes, "probability, clean")

    caption = f"p(correct) and p(noise) at the end, against the fraction of rank of {matrix} kept."
    return Panel(f"curve-{matrix}", f"truncating {matrix}, at the end", draw, caption)


def recalls(records: Records) -> Panel:
    """The memory recalls of the two-layer circuit along training."""
    recall = records.mechanisms.recall
    labels = {
        "previous_token": "previous token (0.k_proj)",
        "induction": "induction (last k_proj)",
        "copy": "copy (last ov)",
    }

    def draw(axes: Axes) -> None:
        for colour, (memory, label) in zip(CYCLE, labels.items(), strict=False):
            if memory in recall.association:
                style.over_steps(axes, recall.sel(association=memory), label=label, color=colour)
        _probability(axes, "accuracy")

    caption = "Accuracy of the memories of the two-layer circuit against the training step."
    return Panel("recalls", "memory recalls", draw, caption, legend=1)


def attention(records: Records) -> Panel:
    """Where the full model looks on noisy sequences."""
    noisy = records.models.sel(set="noisy", model="full")
    lines = {
        "attention_correct": ("last layer, at triggers: correct tokens", COLOURS["correct"]),
        "attention_noise": ("noise tokens", COLOURS["noise"]),
        "attention_previous": ("first layer: the token before", COLOURS["previous"]),
    }

    def draw(axes: Axes) -> None:
        for metric, (label, colour) in lines.items():
            if metric in noisy:
                style.over_steps(axes, noisy[metric], label=label, color=colour)
        _probability(axes, "attention, noisy")

    caption = (
        f"On noisy sequences the last layer's attention at triggers ends with "
        f"{_last(noisy.attention_correct):.2f} on correct tokens and "
        f"{_last(noisy.attention_noise):.2f} on noise tokens."
    )
    return Panel("attention", "attention", draw, caption, legend=1)


def margins(records: Records) -> Panel:
    """What the feed-forwards say at the trigger."""
    found = records.mechanisms.feed_forward_margin

    def draw(axes: Axes) -> None:
        for colour, part in zip(CYCLE, found.feed_forward.values, strict=False):
            values = found.sel(feed_forward=part)
            if np.isfinite(values).any():
                style.over_steps(axes, values, label=f"feed-forward {part}", color=colour)
        axes.axhline(0, color="0.7", lw=0.8, zorder=0)
        axes.set_ylabel("logit(noise) - best other")

    caption = "Logit of the noise less the best other that a feed-forward gives at the trigger."
    return Panel("feed-forward-margins", "feed-forwards at the trigger", draw, caption)


def attribution(records: Records) -> Panel:
    """Which block writes the margin of the noise."""
    found = records.models.margin.sel(set="clean", model="full")

    def draw(axes: Axes) -> None:
        for colour, block in zip(CYCLE, map(str, found.block.values), strict=False):
            label = block.replace("feed_forward_", "feed-forward ").replace(
                "attention_", "attention "
            )
            style.over_steps(axes, found.sel(block=block), label=label, color=colour)
        axes.axhline(0, color="0.7", lw=0.8, zorder=0)
        axes.set_ylabel("logit(noise) - logit(correct)")

    caption = "What each block adds to the margin of the noise, against the training step."
    return Panel("margins", "direct logit attribution", draw, caption)


def bigrams(records: Records) -> Iterator[Panel]:
    """Which part holds the bigrams, and whether recall reaches outputs that were never trained."""
    found = records.bigrams
    shown = {
        "loss": ("full", COLOURS["neutral"], "--"),
        "without_last_attention": ("without last attention", CYCLE[0], "-"),
        "without_feed_forward_0": ("without feed-forward 0", CYCLE[1], "-"),
        "without_feed_forward_1": ("without feed-forward 1", CYCLE[2], "-"),
        "without_feed_forwards": ("without feed-forwards", CYCLE[3], "-"),
    }

    def away(axes: Axes) -> None:
        for variant, (label, colour, line) in shown.items():
            if variant in found:
                style.over_steps(axes, found[variant], label=label, color=colour, ls=line)
        if "entropy" in found:
            _floor(axes, float(found.entropy.mean()), "entropy", "left")
        axes.set_ylabel("nats per token")

    caption = "Loss away from triggers, full and without each part, against the training step."
    yield Panel("bigrams", "loss away from triggers", away, caption, legend=1)

    def laws(axes: Axes) -> None:
        kl = records.mechanisms.get("bigram_kl")
        if kl is None:
            return
        fed = [part for part in map(str, kl.feed_forward.values) if part.isdigit()]
        fed = [part for part in fed if np.isfinite(kl.sel(feed_forward=part)).any()]
        for colour, part in zip(CYCLE[1:], fed, strict=False):
            values = kl.sel(feed_forward=part)
            style.over_steps(axes, values, label=f"feed-forward {part}", color=colour)
        _floor(axes, float(kl.sel(feed_forward="uniform").mean()), "saying nothing", "right")
        axes.set_ylabel("KL to the bigram law, nats")

    caption = "How far what each feed-forward says of a token is from the law of the next token."
    yield Panel("bigram-laws", "what each feed-forward says", laws, caption, legend=1)
    if "heldout" in records.models.set:
        yield held_out(records)


def held_out(records: Records) -> Panel:
    """p(correct) where the output is one of those trained on, and where it is not."""
    found = records.models.p_correct
    models = ["full", *(n for n in _followed(records) if n in ("1.mlp@0", "1.fc_in@0"))]

    def draw(axes: Axes) -> None:
        for colour, model in zip((COLOURS["neutral"], CYCLE[0]), models, strict=False):
            for part, line, told in (("clean", "-", "trained"), ("heldout", ":", "never trained")):
                values = found.sel(set=part, model=model)
                label = f"{model}, outputs {told}"
                style.over_steps(axes, values, label=label, color=colour, ls=line)
        _probability(axes, "p(correct), clean")

    caption = "p(correct) on outputs that were trained, and on those that never were."
    return Panel("held-out", "outputs held out", draw, caption, legend=1)


def spectra(found: xr.Dataset) -> Figure:
    """Singular values along training; a disc's area is its share of the noise direction."""
    names = set(map(str, found.matrix.values))
    layers = sorted({name.split(".")[0] for name in names})
    order = [m for m in MATRICES if any(name.endswith(f".{m}") for name in names)]
    grid = [f"{layer}.{matrix}" for layer in layers for matrix in order]
    panels = [spectrum(found, name) if name in names else None for name in grid]

    def legend(canvas: mpl_figure.Figure) -> None:
        discs = {
            f"{share:g}": canvas.axes[0].scatter(
                [], [], s=WHOLE_DISC * share, color=COLOURS["noise"], lw=0
            )
            for share in (1, 0.5, 0.1)
        }
        canvas.legend(
            discs.values(), discs, loc="outside lower center", ncols=3,
            title="share of the noise direction",
        )  # fmt: skip

    after = legend if "noise_share" in found else None
    return Figure("spectra", panels, len(order), 1.9, after=after, lettered=False)


def spectrum(found: xr.Dataset, matrix: str) -> Panel:
    """Singular values of one matrix along training."""
    here = (
        found.sel(matrix=matrix).mean("seed").dropna("rank", how="all", subset=["singular_values"])
    )
    steps = np.maximum(here.step.values, 0.5)
    values = here.singular_values.transpose("step", "rank").values

    def draw(axes: Axes) -> None:
        axes.plot(steps, values, color="0.75", lw=0.5, zorder=0)
        if "noise_share" in here and np.isfinite(here.noise_share).any():
            area = WHOLE_DISC * here.noise_share.transpose("step", "rank").values.ravel()
            times = np.repeat(steps, values.shape[1])
            axes.scatter(
                times, values.ravel(), s=area, color=COLOURS["noise"], lw=0, rasterized=True
            )
        # A seed on the brink has singular values beyond the finite numbers before it is lost.
        axes.set_ylim(0, values.max(initial=1e-6, where=np.isfinite(values)) * 1.12)
        style.step_axis(axes)
        axes.set_ylabel("singular value")

    caption = f"Singular values of {matrix} against the training step; discs: share of the noise."
    return Panel(f"spectrum-{matrix}", matrix, draw, caption, legend=0)


def _followed(records: Records) -> list[str]:
    models = [m for m in map(str, records.models.model.values) if m != "full"]
    return models[: len(CYCLE)]


def _last(values: xr.DataArray) -> float:
    return float(values.isel(step=-1).mean())


def _alpha(axes: Axes, alpha: float) -> None:
    axes.axhline(alpha, color="0.7", lw=0.8, zorder=0)


def _probability(axes: Axes, label: str = "probability or mass, clean") -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(label)


def _floor(axes: Axes, value: float, label: str, side: str) -> None:
    axes.axhline(value, color="0.7", lw=0.8, zorder=0)
    place = ({"left": 0.02, "right": 0.99}[side], value)
    axes.annotate(label, place, xycoords=("axes fraction", "data"), size=7, va="bottom", ha=side)
