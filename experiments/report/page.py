"""The page: everything in one file that opens from disk, no network, light and dark."""

import dataclasses
import datetime
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.report import charts, strip
from truncated_weights.experiments.report.execute import Done
from truncated_weights.experiments.report.pictures import Picture
from truncated_weights.experiments.report.plan import Planned
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.verdicts import FAILS, HOLDS, ONE_SEED, WORDS, Verdict
from truncated_weights.experiments.run.claim import At, MissingError, Subject

TEMPLATES = Path(__file__).with_name("templates")


@dataclasses.dataclass(frozen=True)
class Report:
    """All that the page tells."""

    subjects: Mapping[str, Subject]
    verdicts: Sequence[Verdict]
    planned: Mapping[str, Planned]
    done: Mapping[str, Done]
    found: Mapping[str, Found]
    command: str


def available() -> bool:
    """Whether the page can be written; its templates need the extra `report`."""
    return importlib.util.find_spec("jinja2") is not None


def build(report: Report, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The text of index.html."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["strip"] = lambda check: Markup(strip.strip(check))
    environment.filters["svg"] = lambda picture: Markup(picture.svg)
    specs = charts.charts(report.found) if charts.available() else {}
    return environment.get_template("page.html").render(
        subjects=report.subjects,
        verdicts=report.verdicts,
        by_subject={
            key: [one for one in report.verdicts if one.subject == key] for key in report.subjects
        },
        counts={word: sum(one.verdict == word for one in report.verdicts) for word in WORDS},
        papers=sorted({one.claim.paper for one in report.verdicts}),
        opening=opening(report),
        pictures=pictures,
        runs=[told(report, one) for one in report.planned.values()],
        commands={name: one.command for name, one in report.planned.items()},
        command=report.command,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specs=sorted(specs),
        specs_json=Markup(charts.embedded(specs)),
        vega=Markup(charts.script()) if specs else "",
        style=Markup((TEMPLATES / "page.css").read_text("utf-8")),
        script=Markup((TEMPLATES / "page.js").read_text("utf-8")),
    )


def opening(report: Report) -> list[str]:
    """Three sentences: what the model does, what a cut does, how many claims hold."""
    said = []
    if (run := report.found.get("recall")) is not None:
        models = ("full", "1.mlp@0")
        full, cut = (figure(run, "p_noise", model) for model in models)
        before, after = (figure(run, "p_correct", model) for model in models)
        said.append(
            f"A two-layer Transformer trained on sequences with noise says noise with probability "
            f"{full:.2f} even where there is none, and the correct token with {before:.2f}."
        )
        said.append(
            f"Without its second feed-forward, with nothing trained anew, it says noise with "
            f"probability {cut:.3f} and the correct token with {after:.2f}."
        )
    held = sum(one.verdict == HOLDS for one in report.verdicts)
    failed = sum(one.verdict == FAILS for one in report.verdicts)
    alone = sum(one.verdict == ONE_SEED for one in report.verdicts)
    waiting = len(report.verdicts) - held - failed - alone
    verb = "fails" if failed == 1 else "fail"
    said.append(
        f"Of {len(report.verdicts)} claims about this, {held} hold here, {failed} {verb}, "
        f"{alone} {'rests' if alone == 1 else 'rest'} on one seed, and {waiting} "
        f"{'was' if waiting == 1 else 'were'} not run."
    )
    return said


def figure(run: Found, metric: str, model: str) -> float:
    """The mean at the end on clean sequences; NaN where the run has none."""
    try:
        return At(metric, set="clean", model=model).read(run).value
    except MissingError:
        return math.nan


def told(report: Report, one: Planned) -> dict[str, Any]:
    """A run as the page lists it."""
    done, found = report.done[one.name], report.found.get(one.name)
    config = found.config if found else {}
    flags = json.dumps(config.get("flags", {}), indent=1)
    return {
        "name": one.name,
        "program": one.run.program,
        "command": one.command,
        "reason": done.reason,
        "seconds": done.seconds,
        "commit": config.get("git_commit", ""),
        "device": config.get("device", ""),
        "python": config.get("python", ""),
        "versions": config.get("versions", {}),
        "flags": flags,
    }


def number(value: Any) -> str:
    """A measured value as the page shows it."""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "not a number"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
