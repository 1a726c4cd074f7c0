"""The pictures of each subject: panels of the programs' own, set for the page."""

import dataclasses
import fnmatch
from collections.abc import Mapping

from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.run.claim import Subject
from truncated_weights.experiments.run.drawing import panel
from truncated_weights.experiments.run.program import note


@dataclasses.dataclass(frozen=True)
class Picture:
    """A panel of a run. name: its address on the page; svg: the drawing, in colours of the page."""

    name: str
    title: str
    caption: str
    svg: str


def pictures(
    subjects: Mapping[str, Subject], found: Mapping[str, Found]
) -> dict[str, list[Picture]]:
    """Of every subject, from whatever of its runs is there; what a run cannot show is told."""
    shown = {run for subject in subjects.values() for run, _ in subject.pictures}
    panels = {run: _panels(found[run]) for run in found if run in shown}
    return {
        key: [
            picture
            for run, pattern in subject.pictures
            if run in panels
            for picture in _chosen(run, pattern, panels[run])
        ]
        for key, subject in subjects.items()
    }


def _panels(run: Found) -> list[panel.Panel]:
    try:
        return list(run.panels())
    except (KeyError, ValueError) as error:
        note(f"no picture of {run.path}: {error}")
        return []


def _chosen(run: str, pattern: str, panels: list[panel.Panel]) -> list[Picture]:
    chosen = [one for one in panels if fnmatch.fnmatchcase(one.name, pattern)]
    if panels and not chosen:
        note(f"{run} has no panel {pattern}; it has {', '.join(one.name for one in panels)}")
    # Two runs of one program have panels of the same name.
    named = [dataclasses.replace(one, name=f"{run}-{one.name}") for one in chosen]
    return [Picture(one.name, one.title, one.caption, panel.svg(one)) for one in named]
