"""The table of a sweep: one row per run, from what was measured along it.

    SET/MODEL/METRIC               at the last step, as in every program
    half_step/noise                p(noise) on noisy sequences reaches alpha / 2
    half_step/recall               p(correct) on clean sequences reaches half of where it ends
    half_step/attention            attention on correct tokens, noisy sequences, reaches 1/2
    margin/feed_forward, margin/attention
                                   what the first step adds to the noise margin, by who writes it
    first_step/...                 see toy/probes/deviation.py; where asked for
    LAYER.MATRIX/noise_place       which singular component holds most of the noise; 1 is the top
    LAYER.MATRIX/noise_share       how much of the noise direction it holds
    LAYER.MATRIX/noise_over_rest   its singular value over the largest other one
    lost_at                        the step at which the run left the finite numbers

A cell is None where the thing does not exist: a half that is never reached, all of a run that was
lost.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.sweep.plan import Group, Run

Arrays = Mapping[str, np.ndarray]
Row = dict[str, Any]


def of_group(group: Group, arrays: Arrays, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a group's runs; columns: the axes that the table tells."""
    return [_row(run, arrays, place, columns) for place, run in enumerate(group.runs)]


def whole(found: Sequence[Row]) -> list[Row]:
    """The rows in order of runs, each with every column of the table; None where it has nothing."""
    columns = dict.fromkeys(name for row in found for name in row)
    return [dict.fromkeys(columns) | row for row in sorted(found, key=lambda row: row["run"])]


def half_step(steps: np.ndarray, curve: np.ndarray, level: float) -> float | None:
    """The step at which a curve [records] first reaches a level.

    Between two records it is interpolated in log(1 + step), along which records are spaced.
    """
    above = curve >= level
    if not above.any() or not math.isfinite(level):
        return None
    after = int(np.argmax(above))
    if after == 0:
        return float(steps[0])
    x, y = np.log1p(steps[after - 1 : after + 1]), curve[after - 1 : after + 1]
    return float(np.expm1(x[0] + (x[1] - x[0]) * (level - y[0]) / (y[1] - y[0])))


def _row(run: Run, arrays: Arrays, place: int, columns: tuple[str, ...]) -> Row:
    lost = int(arrays["first_bad"][place])
    row: Row = {"run": run.index, **{name: run.values[name] for name in columns}, "seed": run.seed}
    row["lost_at"] = lost if lost >= 0 else None
    if lost >= 0:
        # What it recorded before is not where it ends.
        return row
    for name, values in arrays.items():
        label = name.removeprefix("models/")
        if label != name and label != "steps" and values.ndim == 2:
            row[label] = _number(values[-1, place])
    for name in ("first_step/deviation", "first_step/labels"):
        if f"first/{name}" in arrays:
            row[name] = _number(arrays[f"first/{name}"][0, place])
    steps = arrays["models/steps"]

    def curve(name: str) -> np.ndarray:
        return arrays[f"models/{name}"][:, place].astype(np.float64)

    correct = curve("clean/full/p_correct")
    row["half_step/noise"] = half_step(steps, curve("noisy/full/p_noise"), run.config.alpha / 2)
    row["half_step/recall"] = half_step(steps, correct, correct[-1] / 2)
    row["half_step/attention"] = half_step(steps, curve("noisy/full/attention_correct"), 0.5)
    noise, attention = row["half_step/noise"], row["half_step/attention"]
    # Where p(noise) begins near its half, the time to it is no time at all.
    row["half_step/ratio"] = attention / noise if noise and noise >= 1 and attention else None
    for part in ("feed_forward", "attention"):
        layers = [n for n in arrays if n.startswith(f"models/noisy/full/margin/{part}_")]
        row[f"margin/{part}"] = _number(
            sum(float(arrays[name][1, place] - arrays[name][0, place]) for name in layers)
        )
    for name, shares in arrays.items():
        matrix = name.removeprefix("spectra/spectrum/").removesuffix("/noise_share")
        if name.endswith("/noise_share"):
            values = arrays[f"spectra/spectrum/{matrix}/singular_values"][-1, place]
            row |= {f"{matrix}/{k}": v for k, v in _noise_end(values, shares[-1, place]).items()}
    return row


def _noise_end(values: np.ndarray, share: np.ndarray) -> dict[str, float]:
    """Which end of the spectrum holds the noise: singular values [r] and shares [r], falling."""
    place = int(np.argmax(share))
    rest = np.delete(values, place).max() if values.size > 1 else np.nan
    return {
        "noise_place": place + 1,
        "noise_share": float(share[place]),
        "noise_over_rest": float(values[place] / rest),
    }


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
