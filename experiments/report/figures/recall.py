"""Pictures of the noisy-recall runs: learning, cutting, looking inside."""

from matplotlib.axes import Axes

from experiments.report.figures.curves import over_steps
from experiments.report.figures.panel import Panel, below, draw, steps
from experiments.report.reading import Found
from experiments.run import style

NOISE, CORRECT = style.COLOURS["noise"], style.COLOURS["correct"]
NEUTRAL, PREVIOUS = style.COLOURS["neutral"], style.COLOURS["previous"]


def learning(run: Found) -> list[Panel]:
    """The opening picture: noise first, recall later, a cut leaves recall; then against rank."""

    def along(axes: Axes) -> None:
        for model, line, label in (("full", "-", "full"), ("1.mlp@0", "--", "cut")):
            for metric, colour, word in (
                ("p_noise", NOISE, "noise"),
                ("p_correct", CORRECT, "correct"),
            ):
                name = f"models/clean/{model}/{metric}"
                axes.plot(
                    run.steps(name), run.curve(name), line, color=colour, label=f"{word}, {label}"
                )
        steps(axes, run.steps("models/clean/full/p_noise"))
        axes.set_ylim(0, 1)
        axes.set_ylabel("probability, clean sequences")
        below(axes)

    def rank(axes: Axes) -> None:
        for metric, colour, word in (
            ("p_noise", NOISE, "noise"),
            ("p_correct", CORRECT, "correct"),
        ):
            rhos, values = _curve(run, "final/clean/1.fc_in@", metric)
            axes.plot(rhos, values, "o-", ms=3, color=colour, label=word)
        axes.set_xlabel("fraction of rank of 1.fc_in kept")
        axes.set_ylim(0, 1)
        axes.set_ylabel("probability, clean sequences")
        below(axes)

    full = run.curve("models/clean/full/p_noise")[-1]
    cut = run.curve("models/clean/1.mlp@0/p_correct")[-1]
    return [
        draw(
            "learning",
            "Along training",
            f"The noise is learned within steps and stays at {full:.2f} in the full model; without "
            f"the second feed-forward the correct token ends at {cut:.2f}.",
            along,
        ),
        draw(
            "rank",
            "By rank kept, at the end",
            "The less rank of the second feed-forward's input matrix is kept, the less noise and "
            "the more of the correct token.",
            rank,
        ),
    ]


def margins(run: Found) -> list[Panel]:
    """Who writes the noise's margin, step by step."""
    blocks = {
        "feed_forward_0": ("first feed-forward", NEUTRAL, "-"),
        "feed_forward_1": ("second feed-forward", NOISE, "-"),
        "attention_0": ("first attention", PREVIOUS, "--"),
        "attention_1": ("second attention", CORRECT, "-"),
    }

    def body(axes: Axes) -> None:
        for block, (label, colour, line) in blocks.items():
            name = f"models/clean/full/margin/{block}"
            if name in run.arrays:
                axes.plot(run.steps(name), run.curve(name), line, color=colour, label=label)
        axes.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        steps(axes, run.steps("models/clean/full/p_noise"))
        axes.set_ylabel("noise logit - correct logit")
        below(axes)

    alt = "What each block adds to the margin of the noise, against the training step."
    return [draw("margins", "Who writes the noise's margin", alt, body)]


def lazy(run: Found) -> list[Panel]:
    """p(noise) of the first steps: full, linearised, predicted."""
    base = "d64/rate0.03"

    def body(axes: Axes) -> None:
        for variant, colour, line in (("full", NOISE, "-"), ("linearised", CORRECT, "--")):
            name = f"{base}/{variant}/p_noise"
            axes.plot(run.steps(name), run.curve(name), line, color=colour, label=variant)
        predicted = run.arrays[f"{base}/predicted/p_noise"]
        axes.plot(predicted, ":", color=style.COLOURS["theory"], label="predicted, no network")
        axes.set_xlim(0, 16)
        axes.set_ylim(0, 1)
        axes.set_xlabel("training step")
        axes.set_ylabel("p(noise)")
        below(axes)

    def recall(axes: Axes) -> None:
        for variant, colour, line in (("full", NOISE, "-"), ("linearised", CORRECT, "--")):
            name = f"{base}/{variant}/p_correct"
            axes.plot(run.steps(name), run.curve(name), line, color=colour, label=variant)
        axes.set_ylim(0, 1)
        axes.set_xlabel("training step")
        axes.set_ylabel("p(correct)")
        below(axes)

    return [
        draw(
            "lazy-noise", "The noise, with the first kernel",
            "Over the first four steps p(noise) of the full and of the linearised network rise "
            "together, as predicted.", body,
        ),
        draw(
            "lazy-recall", "Recall, not with it",
            "p(correct) rises in the full network only.", recall,
        ),
    ]  # fmt: skip


def attention(run: Found) -> list[Panel]:
    """Attention mass on correct, noise and previous tokens."""
    lines = [
        (f"models/noisy/full/{metric}", colour, label)
        for metric, colour, label in (
            ("attention_correct", CORRECT, "on correct tokens"),
            ("attention_previous", PREVIOUS, "first layer, on the token before"),
            ("attention_noise", NOISE, "on noise tokens"),
        )
    ]
    title = "Attention along training"
    return [over_steps(run, "attention", title, "attention at triggers", lines)]


def recalls(run: Found) -> list[Panel]:
    """The three memory recalls along training."""
    lines = [
        (f"mechanisms/recall/{metric}", colour, label)
        for metric, colour, label in (
            ("induction", CORRECT, "trigger to what follows it"),
            ("previous_token", NEUTRAL, "position to the one before"),
            ("copy", PREVIOUS, "token to its unembedding"),
        )
    ]
    title = "Memory recalls along training"
    return [over_steps(run, "recalls", title, "share recalled", lines, top=1.02)]


def spectra(run: Found) -> list[Panel]:
    """Singular values of both matrices of the last feed-forward, and the top's share of noise."""

    def values(axes: Axes) -> None:
        name = "spectra/spectrum/1.fc_out/singular_values"
        curves, at = run.curve(name), run.steps(name)
        for index in range(min(12, curves.shape[1])):
            top, label = not index, ("largest", "the next eleven", None)[min(index, 2)]
            axes.plot(
                at, curves[:, index], color=NOISE if top else NEUTRAL, lw=1.6 if top else 0.6,
                label=label,
            )  # fmt: skip
        steps(axes, at)
        axes.set_ylabel("singular value of 1.fc_out")
        below(axes)

    def share(axes: Axes) -> None:
        for matrix, colour in (("1.fc_out", NOISE), ("1.fc_in", CORRECT)):
            name = f"spectra/spectrum/{matrix}/noise_share"
            if name in run.arrays:
                axes.plot(run.steps(name), run.curve(name)[:, 0], color=colour, label=matrix)
        steps(axes, run.steps("spectra/spectrum/1.fc_out/noise_share"))
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of noise in the top")
        below(axes)

    return [
        draw(
            "spectrum", "Singular values",
            "One component of the output matrix rises above all others within steps.", values,
        ),
        draw(
            "noise-share", "What the top component is",
            "The top component of the output matrix carries most of the noise direction.", share,
        ),
    ]  # fmt: skip


def along_training(run: Found) -> list[Panel]:
    """p(correct) and p(noise) of the full model and its cuts at every checkpoint."""
    cuts = {
        "full": ("full", NEUTRAL),
        "1.mlp@0": ("no second feed-forward", CORRECT),
        "1.fc_out@-0.01": ("top of W_out dropped", PREVIOUS),
        "1.fc_out@0.02": ("top of W_out kept", NOISE),
    }

    def body(metric: str, label: str) -> Panel:
        def on(axes: Axes) -> None:
            for cut, (title, colour) in cuts.items():
                name = f"clean/{cut}/{metric}"
                if name in run.arrays:
                    axes.plot(run.steps(name), run.curve(name), color=colour, label=title)
            steps(axes, run.steps("clean/full/p_noise"))
            axes.set_ylim(0, 1)
            axes.set_ylabel(label)
            below(axes, 1)

        alt = f"{label} against the training step, for the full model and three cuts."
        return draw(f"along-{metric}", f"{label} of the cuts", alt, on)

    return [body("p_correct", "p(correct)"), body("p_noise", "p(noise)")]


def ablation(run: Found, name: str, title: str) -> list[Panel]:
    """p(correct) and p(noise) at the end, for the full model and every cut of a run."""
    cuts = list(
        dict.fromkeys(
            key.split("/")[2] for key in run.arrays
            if key.startswith("final/clean/") and key.endswith("/p_noise")
        )
    )  # fmt: skip
    kept = sorted((cut for cut in cuts if not cut.endswith("@1")), key=lambda cut: cut != "full")

    def body(axes: Axes) -> None:
        places = range(len(kept))
        for metric, colour, label in (
            ("p_correct", CORRECT, "p(correct)"),
            ("p_noise", NOISE, "p(noise)"),
        ):
            values = [run.curve(f"final/clean/{cut}/{metric}").mean() for cut in kept]
            axes.plot(values, places, "o", ms=4, color=colour, label=label)
        axes.set_yticks(list(places), kept)
        axes.invert_yaxis()
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="y", color="0.7", lw=0.4)
        below(axes)

    alt = "p(correct) and p(noise) at the end, by cut: " + ", ".join(
        f"{cut} {run.curve(f'final/clean/{cut}/p_correct').mean():.2f} and "
        f"{run.curve(f'final/clean/{cut}/p_noise').mean():.2f}"
        for cut in kept[:8]
    )
    return [draw(name, title, alt, body, height=1.2 + 0.17 * len(kept))]


def bigrams(run: Found) -> list[Panel]:
    """Nats away from triggers, of the model and of parts of it."""

    def body(axes: Axes) -> None:
        for key, colour, label in (
            ("loss", CORRECT, "full"),
            ("without_last_attention", PREVIOUS, "without the last attention"),
            ("without_feed_forwards", NOISE, "without feed-forwards"),
            ("entropy", style.COLOURS["theory"], "entropy of the law"),
        ):
            name = f"bigrams/bigram/{key}"
            line = ":" if key == "entropy" else "-"
            axes.plot(run.steps(name), run.curve(name), line, color=colour, label=label)
        steps(axes, run.steps("bigrams/bigram/loss"))
        axes.set_ylabel("nats per token")
        below(axes, 1)

    alt = "Loss away from triggers, full and without each part, against the training step."
    return [draw("bigrams", "Away from triggers", alt, body)]


def _curve(run: Found, begins: str, metric: str) -> tuple[list[float], list[float]]:
    """(rho, value) of every kept fraction of one matrix, in order."""
    found = {}
    for key in run.arrays:
        if key.startswith(begins) and key.endswith(f"/{metric}"):
            rho = key.removeprefix(begins).partition("/")[0]
            if not rho.startswith("-"):
                found[float(rho)] = float(run.curve(key).mean())
    return list(dict(sorted(found.items()))), [found[rho] for rho in sorted(found)]
