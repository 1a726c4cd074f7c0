"""What moves on the page: Vega-Lite specifications with their data, and the script that runs them.

Altair writes the specifications, vl-convert holds Vega's script for use without a network. Both
come with the extra `report`; without them the page has everything but the sliders.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from truncated_weights.experiments.report.reading import Found

# As in experiments/run/drawing/panel.py: one drawing for light and dark.
COLOURS = {"p(noise)": "var(--noise)", "p(correct)": "var(--correct)"}
CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "axis": {
        "labelColor": "currentColor", "titleColor": "currentColor", "domainColor": "currentColor",
        "tickColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.15,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12,
               "orient": "bottom", "titleFontSize": 12, "titleFontWeight": "normal"},
    "title": {"color": "currentColor", "fontSize": 13, "fontWeight": "normal", "anchor": "start"},
    "view": {"stroke": None},
}  # fmt: skip
DESCRIPTIONS = {
    "by-rank": "p(correct) and p(noise) against the fraction of rank kept, at a checkpoint",
    "by-step": "p(correct) and p(noise) against the training step, at a fraction of rank kept",
    "phase-chart": "Predicted ratio of noise to signal over inputs and alpha, at a time",
}
# Models in which one matrix is cut to its largest components.
KEPT = re.compile(r"(?P<matrix>\d+\.\w+)@(?P<rho>[\d.]+)")


def available() -> bool:
    """Whether what moves can be written; it comes with the extra `report`."""
    return all(importlib.util.find_spec(name) for name in ("altair", "vl_convert"))


def charts(found: Mapping[str, Found]) -> dict[str, dict[str, Any]]:
    """Specifications by the id of their place on the page, from the runs that are there."""
    specs: dict[str, dict[str, Any]] = {}
    if "cuts" in found:
        specs["by-rank"] = by_rank(found["cuts"])
        specs["by-step"] = by_step(found["cuts"])
    if "phase" in found:
        specs["phase-chart"] = phase_map(found["phase"])
    return {name: spec | {"description": DESCRIPTIONS[name]} for name, spec in specs.items()}


@functools.cache
def script() -> str:
    """Vega, Vega-Lite and vega-embed as one text that may stand inside a script element."""
    import vl_convert

    # None is Vega with all that vegaEmbed needs; the stub of vl-convert asks for a text.
    bundle = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]
    return bundle.replace("</script", "<\\/script")


def embedded(specs: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(specs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def by_rank(run: Found) -> dict[str, Any]:
    """p(correct), p(noise) against the fraction kept; a slider for the training step."""
    import altair as alt

    rows, steps, _ = _cut_rows(run)
    slider = alt.param(
        name="checkpoint", value=len(steps) - 1,
        bind=alt.binding_range(min=0, max=len(steps) - 1, step=1, name="checkpoint "),
    )  # fmt: skip
    matrix = _matrix(rows)
    chart = _lines(rows).encode(
        x=alt.X("rho:Q", title="fraction of rank kept", scale=alt.Scale(domain=[0, 1]))
    )
    chart = chart.transform_filter("datum.index == checkpoint && datum.matrix == matrix")
    title = alt.TitleParams(alt.expr(f"'after training step ' + {steps}[checkpoint]"))
    return _finished(chart.add_params(slider, matrix).properties(title=title))


def by_step(run: Found) -> dict[str, Any]:
    """p(correct), p(noise) against the training step; a slider for the fraction kept."""
    import altair as alt

    rows, _, rhos = _cut_rows(run)
    slider = alt.param(
        name="kept", value=0,
        bind=alt.binding_range(min=0, max=len(rhos) - 1, step=1, name="rank kept "),
    )  # fmt: skip
    matrix = _matrix(rows)
    chart = _lines(rows).encode(
        x=alt.X(
            "step:Q", title="training step", scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000, 3000]),
        )
    )  # fmt: skip
    chart = chart.transform_filter("datum.place == kept && datum.matrix == matrix")
    title = alt.TitleParams(alt.expr(f"'at fraction ' + {rhos}[kept] + ' of the rank'"))
    return _finished(chart.add_params(slider, matrix).properties(title=title))


def phase_map(run: Found) -> dict[str, Any]:
    """Log of noise over signal singular value over N and alpha; a slider for the time."""
    import altair as alt

    found = run.records["map"].log_ratio.transpose("num_inputs", "alpha", "time")
    times, sizes = found.time.values.tolist(), found.num_inputs.values
    # Neighbouring sizes are near each other on the logarithmic axis; thirty of them fill it.
    shown = np.unique(np.geomspace(1, sizes.size, min(30, sizes.size)).round().astype(int) - 1)
    rows = [
        {"N": int(sizes[i]), "alpha": round(float(alpha), 4), "place": place,
         "value": round(float(found.values[i, j, place]), 3)}
        for i in shown
        for j, alpha in enumerate(found.alpha.values)
        for place in range(len(times))
    ]  # fmt: skip
    slider = alt.param(
        name="time", value=len(times) - 1,
        bind=alt.binding_range(min=0, max=len(times) - 1, step=1, name="time "),
    )  # fmt: skip
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("N:O", title="inputs N", axis=alt.Axis(labelOverlap=True)),
            y=alt.Y(
                "alpha:O", title="alpha", sort="descending",
                axis=alt.Axis(labelOverlap="greedy", labelSeparation=12, format=".2f"),
            ),
            color=alt.Color(
                "value:Q", title="log(noise / signal)",
                scale=alt.Scale(scheme="blueorange", domainMid=0),
            ),
            tooltip=["N:O", "alpha:O", "value:Q"],
        )
        .transform_filter("datum.place == time")
        .add_params(slider)
    )  # fmt: skip
    title = alt.TitleParams(alt.expr(f"'at time ' + {times}[time]"))
    return _finished(chart.properties(title=title))


def _cut_rows(run: Found) -> tuple[list[dict[str, Any]], list[int], list[float]]:
    """One row per checkpoint, matrix, fraction kept and probability; checkpoints; fractions."""
    clean = run.records["models"].sel(set="clean").mean("seed")
    steps = clean.step.values.tolist()
    matches = [found for model in clean.model.values if (found := KEPT.fullmatch(str(model)))]
    rhos = sorted({float(found["rho"]) for found in matches})
    rows = []
    for found in matches:
        rho = float(found["rho"])
        for metric, label in (("p_noise", "p(noise)"), ("p_correct", "p(correct)")):
            for index, value in enumerate(clean[metric].sel(model=found[0]).values):
                rows.append(
                    {"index": index, "step": steps[index], "matrix": found["matrix"], "rho": rho,
                     "place": rhos.index(rho), "of": label, "p": round(float(value), 4)}
                )  # fmt: skip
    return rows, steps, rhos


def _matrix(rows: list[dict[str, Any]]) -> Any:
    import altair as alt

    options = sorted({row["matrix"] for row in rows})
    return alt.param(
        name="matrix", value=options[0],
        bind=alt.binding_select(options=options, name="matrix "),
    )  # fmt: skip


def _lines(rows: list[dict[str, Any]]) -> Any:
    import altair as alt

    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True)
        .encode(
            y=alt.Y("p:Q", title="probability", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "of:N", title=None,
                scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
            ),
            tooltip=["of:N", "p:Q", "rho:Q", "step:Q"],
        )
    )  # fmt: skip


def _finished(chart: Any) -> dict[str, Any]:
    sized = chart.properties(width="container", height=240)
    return sized.configure(**CONFIG).to_dict()
