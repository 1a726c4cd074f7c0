"""Every preset beside a program is read by its flags, and is not what happens anyway."""

import dataclasses
import importlib
from pathlib import Path

import pytest
from absl import flags as absl_flags

from experiments.run import flags
from experiments.run.program import Shared
from training import settings

ROOT = Path(__file__).parents[3]
PRESETS = sorted((ROOT / "experiments").glob("*/*.flags"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_preset_is_read(preset):
    program = importlib.import_module(f"experiments.{preset.parent.name}.__main__").PROGRAM

    def read(*arguments):
        values = absl_flags.FlagValues()
        flags.define(program.settings, values)
        flags.define(Shared, values)
        values(["program", *arguments])
        return flags.read(program.settings, values)

    fields = dataclasses.fields(program.settings)
    given = [f"--{field.name}=x" for field in fields if settings.rule(field).required
             and field.default == ""]  # fmt: skip
    preset_alone = read(*given, f"--flagfile={preset}")
    wanted = [
        line.removeprefix("--").partition("=")[0]
        for line in preset.read_text().splitlines()
        if line.startswith("--") and not line.startswith("--flagfile")
    ]
    assert wanted
    # These two spell out the defaults.
    if preset.stem not in ("tiny", "small"):
        assert preset_alone != read(*given)
