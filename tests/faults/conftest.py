"""One set of tiny inputs for the whole fault matrix."""

import collections
import dataclasses
import functools
import json
import os
import time
from pathlib import Path

import pytest

from tests.faults.programs import TINY, make_inputs, require_strict


@pytest.fixture(scope="session")
def prepared(house, tmp_path_factory):
    """prepared(tiny) is the folder of inputs, with those of this program in it."""
    folder = tmp_path_factory.mktemp("inputs")
    return lambda tiny: make_inputs(folder, tiny, house.must)


@pytest.fixture
def inputs(prepared, name):
    """The folder of inputs for the program that the test is about."""
    return prepared(TINY[name])


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that nothing disturbed: where it is, what it found, and how long it took."""

    out: Path
    summary: dict
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(house, prepared, tmp_path_factory):
    """The undisturbed Run of a program by name, made when asked for."""
    made = {}

    def find(name):
        if name not in made:
            tiny, seconds = TINY[name], 0.0
            # Twice: the first compiles, and the second is what others are timed by.
            for attempt in ("first", "second"):
                out, began = tmp_path_factory.mktemp(name) / attempt, time.monotonic()
                process = house.run(tiny, prepared(tiny), out)
                seconds = time.monotonic() - began
                assert process.code == 0, process.said
                require_strict(out)
                if attempt == "second":
                    assert tiny.summary(out) == made[name].summary
                made[name] = Run(out, tiny.summary(out), seconds)
        return made[name]

    return find


@pytest.fixture(scope="session")
def table():
    """tell(program, fault, verdict): what the table of the fault matrix is made of.

    Written as Markdown to the file that the variable FAULT_TABLE names, if it does.
    """
    told = collections.defaultdict(collections.Counter)
    yield lambda program, fault, verdict: told[program, fault].update([verdict])
    if target := os.environ.get("FAULT_TABLE"):
        faults = list(dict.fromkeys(fault for _, fault in told))
        lines = ["| program | " + " | ".join(faults) + " |", "|---|" + "---|" * len(faults)]
        for name in TINY:
            cells = [", ".join(f"{n} {v}" for v, n in told[name, f].items()) or "-" for f in faults]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        Path(target).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A directory in which a run of a program seems to have finished, by name.

    It holds no settings that any command line gives, so nothing can continue it.
    """

    def make(name):
        out = tmp_path_factory.mktemp("finished") / name
        out.mkdir()
        config = {"program": name, "flags": {}}
        (out / "config.json").write_text(json.dumps(config))
        (out / "summary.json").write_text("{}")
        return out

    return functools.cache(make)
