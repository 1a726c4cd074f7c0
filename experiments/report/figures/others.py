"""Pictures of the memory, the verification, the selection rules and the language models."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from experiments.report.claim import share_of_allowance
from experiments.report.figures.curves import over_steps
from experiments.report.figures.panel import Panel, below, draw, steps
from experiments.report.reading import Found
from experiments.run import style

NOISE, CORRECT = style.COLOURS["noise"], style.COLOURS["correct"]
NEUTRAL, PREVIOUS = style.COLOURS["neutral"], style.COLOURS["previous"]


def memory(run: Found) -> list[Panel]:
    """Singular values over time, and p(noise) of the full memory and its cuts."""
    number, alpha = run.config["flags"]["num_inputs"], run.config["flags"]["alpha"]
    times = run.steps("memory/full/p_noise") * run.config["flags"]["step_size"]
    later = times > 0

    def values(axes: Axes) -> None:
        found = run.curve("memory/logits/singular_values")[later]
        share = run.curve("memory/logits/noise_share")[later]
        top = np.argmax(share, axis=1)
        rest = np.ma.array(found, mask=np.arange(number) == top[:, None])
        axes.plot(times[later], rest.mean(axis=1), color=CORRECT, label="signal")
        noise = np.take_along_axis(found, top[:, None], axis=1)
        axes.plot(times[later], noise, color=NOISE, label="noise")
        axes.set_xscale("log")
        axes.set_xlabel("time")
        axes.set_ylabel("singular value")
        below(axes)

    def outputs(axes: Axes) -> None:
        names = [
            key.split("/")[1] for key in run.arrays
            if key.startswith("memory/0.fc_in") and key.endswith("/p_noise")
        ]  # fmt: skip
        colours = dict(zip(names, (PREVIOUS, CORRECT), strict=False))
        for name in ("full", *names):
            label = "full" if name == "full" else f"cut, {name}"
            axes.plot(
                times[later], run.curve(f"memory/{name}/p_noise")[later],
                color=colours.get(name, NOISE), label=label,
            )  # fmt: skip
        axes.axhline(alpha, color="0.7", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.set_xlabel("time")
        axes.set_ylabel("p(noise)")
        below(axes, 1)

    return [
        draw(
            f"memory-values-{number}", f"Spectrum, {number} inputs",
            "Singular values of signal and noise against time.", values,
        ),
        draw(
            f"memory-noise-{number}", f"p(noise), {number} inputs",
            "p(noise) of the full memory stays at alpha; that of its cuts changes with time.",
            outputs,
        ),
    ]  # fmt: skip


def frequencies(run: Found) -> list[Panel]:
    """Margins of every fact by frequency, before and after the cut."""
    law = run.arrays["facts/frequencies"]

    def body(axes: Axes) -> None:
        for name, colour, label in (
            ("full", NOISE, "full"),
            ("cut", CORRECT, "top component dropped"),
        ):
            margin = run.curve(f"memory/facts/{name}/margin")[-1]
            axes.plot(law, margin, "o", ms=2.5, color=colour, label=label)
        axes.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("frequency of the fact")
        axes.set_ylabel("margin: right above 0")
        below(axes)

    alt = "Margins of facts by frequency rank, in the full memory and with its top dropped."
    return [draw("frequencies", "Which facts a cut corrects", alt, body)]


def phase(run: Found) -> list[Panel]:
    """The map at its last time, with the trained memories on it."""
    arrays = run.arrays
    last = arrays["times"].size - 1

    def body(axes: Axes) -> None:
        sizes, alphas = arrays["map/num_inputs"], arrays["map/alpha"]
        axes.contour(
            sizes, alphas, arrays["map/log_ratio"][:, :, last].T, levels=[0.0],
            colors=[style.COLOURS["theory"]], linewidths=1.2,
        )  # fmt: skip
        above = arrays["points/measured"][:, last] > 0
        for chosen, colour, label in (
            (above, NOISE, "noise on top"),
            (~above, CORRECT, "signal on top"),
        ):
            axes.plot(
                arrays["points/num_inputs"][chosen], arrays["points/alpha"][chosen], "o", ms=3,
                color=colour, label=f"trained: {label}",
            )  # fmt: skip
        axes.set_xscale("log")
        ticks = [2**k for k in range(1, 13) if 2**k <= sizes.max()]
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("inputs N")
        axes.set_ylabel("alpha")
        below(axes, 1)

    title = f"Which end holds the noise, t = {arrays['times'][last]:g}"
    alt = "Trained memories in the plane of N and alpha, with the predicted boundary."
    return [draw("phase", title, alt, body)]


def theory(run: Found) -> list[Panel]:
    """Every row's distance from its prediction, over what it may be."""
    rows = run["rows_of_table"]
    families = list(dict.fromkeys(row["family"] for row in rows))

    def body(axes: Axes) -> None:
        for place, family in enumerate(families):
            used = np.array(
                [share_of_allowance(r, run["z_limit"]) for r in rows if r["family"] == family]
            )
            spread = (np.arange(used.size) % 5 - 2) * 0.11
            inside = used <= 1
            for chosen, colour in ((inside, CORRECT), (~inside, NOISE)):
                axes.plot(
                    np.minimum(used[chosen], 1.2), place + spread[chosen], "o", ms=2, color=colour
                )
        axes.axvline(1.0, color=NOISE, lw=0.8)
        axes.set_yticks(range(len(families)), families)
        axes.invert_yaxis()
        axes.set_xlim(-0.02, 1.25)
        axes.set_xlabel("distance from the prediction / allowed")

    failed = sum(row["verdict"] != "ok" for row in rows)
    alt = f"{len(rows)} rows in {len(families)} families, {failed} beyond what they may be."
    return [draw("theory", "Predictions against simulations", alt, body)]


def plateau(run: Found) -> list[Panel]:
    """p(noise) after settling, the labels drawn and replaced by their law."""
    cell = "batch32/rate0.03/momentum0.9"
    watched = {kind: run.arrays[f"{cell}/{kind}"][0, :200] for kind in ("drawn", "fair")}

    def body(axes: Axes) -> None:
        for kind, colour, label in (
            ("drawn", NOISE, "labels drawn"),
            ("fair", CORRECT, "labels replaced by their law"),
        ):
            axes.plot(watched[kind], color=colour, lw=0.8, label=label)
        axes.set_xlabel("step after settling")
        axes.set_ylabel("p(noise)")
        below(axes, 1)

    drawn, fair = (watched[kind].std() for kind in ("drawn", "fair"))
    alt = (
        f"One run, batch 32, rate 0.03, momentum 0.9: standard deviation {drawn:.3f} with labels "
        f"drawn, {fair:.3f} with labels replaced by their law."
    )
    return [draw("plateau", "The plateau with and without coin flips", alt, body)]


def rules(run: Found) -> list[Panel]:
    """p(correct) of what each rule chose."""
    names = [
        key.split("/")[1] for key in run if key.startswith("clean/") and key.endswith("/p_correct")
    ]
    names.sort(key=lambda name: run[f"clean/{name}/p_correct"])
    labels = [name.replace("_", " ") for name in names]
    correct = [run[f"clean/{name}/p_correct"] for name in names]

    def body(axes: Axes) -> None:
        places = range(len(names))
        axes.plot(correct, places, "o", ms=4, color=CORRECT, label="p(correct)")
        noise = [run[f"clean/{name}/p_noise"] for name in names]
        axes.plot(noise, places, "o", ms=4, color=NOISE, label="p(noise)")
        axes.set_yticks(list(places), labels)
        axes.grid(axis="y", color="0.7", lw=0.4)
        axes.set_xlim(-0.02, 1.02)
        below(axes)

    def cost(axes: Axes) -> None:
        evaluations = [run[f"clean/{name}/evaluations"] for name in names]
        axes.plot(evaluations, range(len(names)), "o", ms=4, color=NEUTRAL)
        axes.set_yticks(range(len(names)), labels)
        axes.grid(axis="y", color="0.7", lw=0.4)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("evaluations")

    alt = "By rule, p(correct): " + ", ".join(
        f"{label} {value:.2f}" for label, value in zip(labels, correct, strict=True)
    )
    height = 1.2 + 0.16 * len(names)
    costs = "Evaluations of each rule, from none to hundreds, in the order of p(correct)."
    return [
        draw("rules", "What each rule's choice gives", alt, body, height=height),
        draw("rules-cost", "At what cost", costs, cost, height=height),
    ]


def scaling(run: Found) -> list[Panel]:
    """p(correct) of the full model and of two cuts at every point of a sweep."""
    flags = run.config["flags"]
    points = [
        (tokens, alpha, f"num_tokens={tokens},alpha={alpha:g}/clean")
        for tokens in flags["num_tokens"]
        for alpha in flags["alpha"]
    ]

    def body(axes: Axes) -> None:
        for cut, colour, label in (
            ("full", NEUTRAL, "full"),
            ("1.mlp@0", CORRECT, "no second feed-forward"),
            ("1.fc_out@-0.02", PREVIOUS, "top of W_out dropped"),
        ):
            values = [run[f"{point}/{cut}/p_correct"] for *_, point in points]
            axes.plot(values, "o", ms=3, color=colour, label=label)
        axes.set_xticks(
            range(len(points)), [f"{tokens}, {alpha:g}" for tokens, alpha, _ in points],
            rotation=90, fontsize=6.5,
        )  # fmt: skip
        axes.set_xlabel("tokens, alpha")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("p(correct)")
        below(axes, 1)

    alt = "p(correct) against alpha, full and cut."
    return [draw("scaling", "Over tokens and alpha", alt, body, height=3.2)]


def mini(run: Found) -> list[Panel]:
    """A small Pythia's answers to held-out stories along training."""
    lines = [
        (f"prompts/story/{metric}", colour, label)
        for metric, colour, label in (
            ("p_answer", CORRECT, "right name"),
            ("p_distractor", PREVIOUS, "the other name"),
            ("p_the", NOISE, '" the"'),
        )
    ]
    title, ylabel = "A small Pythia along training", "probability, held-out stories"
    return [over_steps(run, "mini", title, ylabel, lines, columns=2)]


def dynamics(run: Found) -> list[Panel]:
    """p(the) of its cuts along training."""
    name = next(key.split("/")[0] for key in run if key.endswith("/full/p_the"))
    models = [
        key.split("/")[1] for key in run if key.startswith(f"{name}/") and key.endswith("/p_the")
    ]

    def body(axes: Axes) -> None:
        for model, colour in zip(models, (NOISE, CORRECT, PREVIOUS, NEUTRAL), strict=False):
            found = [row for row in run.rows("dynamics.jsonl") if row["model"] == model]
            axes.plot(
                [row["step"] for row in found], [row["p_the"] for row in found], color=colour,
                label=model,
            )  # fmt: skip
        steps(axes, [row["step"] for row in run.rows("dynamics.jsonl")])
        axes.set_ylim(0, 1)
        axes.set_ylabel('p(" the")')
        below(axes)

    alt = 'p(" the") of the small Pythia and of three of its cuts, checkpoint by checkpoint.'
    return [draw("mini-cuts", "Its cuts along training", alt, body)]


def changes(run: Found) -> list[Panel]:
    """How a language model's answers change with each cut."""
    tasks = list(dict.fromkeys(key.split("/")[0] for key in run if "/test/full/p_the" in key))
    cuts = list(dict.fromkeys(key.split("/")[2] for key in run if key.endswith("/p_the_change")))
    labels = [f"{task}, {cut}" for task in tasks for cut in cuts if cut != "full"]

    def body(axes: Axes) -> None:
        for metric, colour, label in (
            ("p_the", NOISE, 'p(" the")'),
            ("p_answer", CORRECT, "p(answer)"),
        ):
            values = [
                run[f"{task}/test/{cut}/{metric}_change"]
                for task in tasks for cut in cuts if cut != "full"
            ]  # fmt: skip
            axes.plot(values, range(len(labels)), "o", ms=4, color=colour, label=label)
        axes.axvline(0.0, color="0.7", lw=0.8, zorder=0)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("change by the cut")
        below(axes)

    title = f"What cuts change in {run.path.name.partition('-')[2]}"
    alt = 'Changes of p(" the") and p(answer) for each task and cut.'
    return [draw(f"changes-{run.path.name}", title, alt, body, height=1.4 + 0.2 * len(labels))]
