"""--redraw: flags of drawing are obeyed, any other that differs is refused, for every program."""

import dataclasses
import importlib
import json

import pytest

from truncated_weights.experiments.run import flags, study
from truncated_weights.experiments.run.directory import plain
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure
from truncated_weights.experiments.run.program import programs
from truncated_weights.training import settings


def other(kind, several, rule, value):
    """The text of some value that a run did not have."""
    if kind is bool:
        return "no" if value else "yes"
    if rule.choices:
        return next(c for c in rule.choices if c != value and (c,) != value)
    if kind is str:
        return "something_else"
    low = 0 if rule.lower is None else rule.lower
    high = low + 1 if rule.upper is None else min(low + 1, rule.upper)
    return str(next(n for n in (low, high) if n != value and (n,) != value))


@pytest.mark.fault("A15")
@pytest.mark.parametrize("name", sorted(programs()))
def test_a_flag_that_drawing_would_drop_is_refused_by_name(name, drive, tmp_path):
    program = importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM
    required = {
        f.name: (("x",) if settings.kinds(program.settings)[f.name][1] else "a/b")
        for f in dataclasses.fields(program.settings)
        if settings.rule(f).required and f.default in ("", ())
    }
    had = program.settings(**required)
    out = tmp_path / "run"
    out.mkdir()
    config = {"program": name, "flags": plain(dataclasses.asdict(had))}
    (out / "config.json").write_text(json.dumps(config))
    (out / "summary.json").write_text("{}")
    lines, told = [], []
    kinds = settings.kinds(program.settings)
    for field in dataclasses.fields(program.settings):
        rule = settings.rule(field)
        if rule.drawing:
            continue
        value = other(*kinds[field.name], rule, getattr(had, field.name))
        flag = flags.name_of(field)
        text = f"--{'no' if value == 'no' else ''}{flag}"
        lines.append([text if value in ("yes", "no") else f"{text}={value}"])
        told.append(f"--redraw only draws: the run in {out} has --{flag}=")
    lines.append(["--overwrite"])
    told.append("--redraw and --overwrite exclude each other")
    for line, start, ended in zip(
        lines, told, drive(name, *[["--redraw", f"--out={out}", *line] for line in lines]),
        strict=True,
    ):  # fmt: skip
        assert (ended["code"], ended["out"]) == (2, ""), (line, ended)
        assert ended["err"].startswith(f"error: {start}"), (line, ended)
        assert ended["err"].count("\n") == 1


@pytest.mark.fault("A15")
def test_flags_of_drawing_reach_the_figures(drive, tmp_path, monkeypatch):
    from truncated_weights.experiments.sweep import measure
    from truncated_weights.experiments.sweep.settings import SETTINGS

    out = tmp_path / "run"
    out.mkdir()
    had = plain(dataclasses.asdict(SETTINGS(alpha=(0.3,))))
    (out / "config.json").write_text(json.dumps({"program": "sweep", "flags": had}))
    (out / "summary.json").write_text("{}")
    seen = []
    drawing = dataclasses.replace(
        measure.STUDY, figures=lambda config, records: seen.append(config) or (Figure("a", []),)
    )
    monkeypatch.setattr(measure, "STUDY", drawing)
    monkeypatch.setattr(study, "render", lambda figure: style.figure(1, 1)[0])
    (ended,) = drive(
        "sweep", ["--redraw", f"--out={out}", "--shown=half_step/noise", "--alpha=0.3"]
    )
    assert (ended["code"], ended["err"]) == (0, "")
    assert seen[0].shown == ("half_step/noise",)
    assert seen[0].alpha == (0.3,)
    assert measure.figures.chosen(seen[0], None) == ("half_step/noise",)
