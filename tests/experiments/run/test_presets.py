"""Every preset beside a program is read by its flags, and is not what happens anyway."""

import dataclasses
import importlib
from pathlib import Path

import pytest
from absl import flags as absl_flags

from truncated_weights.experiments.run import flags
from truncated_weights.experiments.run.program import Shared, programs
from truncated_weights.training import settings

ROOT = Path(__file__).parents[3]


def named(name):
    return importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM


PRESETS = sorted((ROOT / "experiments").glob("*/*.flags"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_preset_is_read(preset):
    program = importlib.import_module(
        f"truncated_weights.experiments.{preset.parent.name}.__main__"
    ).PROGRAM

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


def test_a_preset_is_a_flag_file_by_name(tmp_path):
    (tmp_path / "small.flags").write_text("--alpha=0.3\n")
    known = flags.presets(tmp_path)
    expanded = flags.with_presets(["--preset=small", "--preset", "small", "--x=1"], known)
    assert expanded == [f"--flagfile={tmp_path}/small.flags"] * 2 + ["--x=1"]
    with pytest.raises(ValueError, match="--preset=large: there are small"):
        flags.with_presets(["--preset=large"], known)
    with pytest.raises(ValueError, match="there are none"):
        flags.with_presets(["--preset"], {})


def test_no_setting_is_called_preset():
    for program in programs():
        of = importlib.import_module(
            f"truncated_weights.experiments.{program}.__main__"
        ).PROGRAM.settings
        assert "preset" not in {field.name for field in dataclasses.fields(of)}, program
