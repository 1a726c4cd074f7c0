"""From the settings to what is to be run and judged: claims, their runs, flags, directories."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from truncated_weights.experiments.report.runs import GIVEN, PRESETS, PROGRAMS, Run, filled
from truncated_weights.experiments.run import flags
from truncated_weights.experiments.run.claim import Claim, Subject
from truncated_weights.experiments.run.program import UserError


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run with its place. name: of the run, with the model's after it where it has one.

    missing: what the user did not name, as the verdict says it; empty where the run can begin.
    inputs: settings that hold a place, which is another wherever the report is.
    """

    name: str
    run: Run
    path: Path
    arguments: tuple[str, ...]
    minutes: float
    missing: str = ""
    inputs: frozenset[str] = frozenset()

    @property
    def command(self) -> str:
        """What a user would type to repeat it."""
        flagged = (*self.arguments, f"--out={self.path}")
        return " ".join((f"python -m experiments.{self.run.program}", *flagged))

    def settings(self) -> dict[str, Any]:
        """The settings as config.json will hold them; UserError where a flag is not one."""
        program = PROGRAMS[self.run.program]
        values = flags.Values()
        flags.define(program.settings, values)
        try:
            values([self.run.program, *self.arguments])
            config = flags.read(program.settings, values)
        except (absl_flags.Error, ValueError, OSError) as error:
            raise UserError(f"{self.name}: {' '.join(str(error).split())}") from error
        return json.loads(json.dumps(dataclasses.asdict(config)))

    def defaults(self) -> dict[str, Any]:
        """What the program's settings are where no flag is given."""
        program = PROGRAMS[self.run.program]
        return json.loads(
            json.dumps({f.name: f.default for f in dataclasses.fields(program.settings)})
        )

    def is_of(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with this config.json is the one planned, places of inputs aside."""
        # A run written before a setting existed had its default.
        mine = self.settings()
        found = {**self.defaults(), **config["flags"]}
        same = {k: v for k, v in mine.items() if k not in self.inputs}
        return config.get("program") == self.run.program and all(
            found.get(name) == value for name, value in same.items()
        )


def expanded(
    subjects: Mapping[str, Subject], runs: Mapping[str, Run], models: Sequence[str]
) -> dict[str, Subject]:
    """The subjects with one copy of each claim and picture of language models for every model."""
    found = {}
    for key, subject in subjects.items():
        pictures = [
            (one, panel)
            for run, panel in subject.pictures
            for one in (
                [f"{run}-{name}" for name in named(models).values()]
                if models and "model" in runs[run].asks()
                else [run]
            )
        ]
        claims: list[Claim] = []
        for claim in subject.claims:
            if "model" not in runs[claim.run].asks() or not models:
                claims.append(claim)
                continue
            for model, name in named(models).items():
                claims.append(
                    dataclasses.replace(
                        claim,
                        name=f"{claim.name}-{name}",
                        title=f"{claim.title}: {Path(model).name}",
                        run=f"{claim.run}-{name}",
                    )
                )
        found[key] = dataclasses.replace(subject, claims=claims, pictures=pictures)
    return found


def named(models: Iterable[str]) -> dict[str, str]:
    """A name for each model directory, fit for a directory and an anchor; no two alike."""
    found: dict[str, str] = {}
    for model in models:
        plain = "".join(c if c.isalnum() or c in "._" else "_" for c in Path(model).name)
        taken = sum(other == plain or other.startswith(f"{plain}.") for other in found.values())
        found[model] = f"{plain}.{taken + 1}" if taken else plain
    return found


def plan(
    subjects: Mapping[str, Subject],
    runs: Mapping[str, Run],
    folder: Path,
    *,
    quick: bool,
    models: Sequence[str] = (),
    package: str = "",
) -> dict[str, Planned]:
    """Every run that a claim reads and every run that these read, in an order that works.

    package: the file of a model that a package registry serves, where it is in the cache.
    """
    of_model = {name: model for model, name in named(models).items()}
    found: dict[str, Planned] = {}

    def add(name: str) -> None:
        if name in found:
            return
        base, _, model = name.partition("-")
        run = runs[base]
        for needed in sorted(run.needs()):
            add(needed)
        places = {other: str(folder / other) for other in run.needs()}
        places |= {"presets": str(PRESETS)}
        given = {"model": of_model.get(model, ""), "package": package}
        places |= {key: value for key, value in given.items() if value}
        missing = [GIVEN[key] for key in sorted(run.asks()) if not given[key]]
        missing += [found[other].missing for other in sorted(run.needs()) if found[other].missing]
        texts = run.flags(quick)
        inputs = {
            text.removeprefix("--").partition("=")[0]
            for text in texts
            if "{" in text.replace("{presets}", "")
        }
        found[name] = Planned(
            name,
            run,
            folder / name,
            tuple(filled(flag, places) for flag in texts),
            run.minutes[0 if quick else 1],
            missing[0] if missing else "",
            frozenset(inputs),
        )

    for subject in subjects.values():
        for claim in subject.claims:
            add(claim.run)
    return found
