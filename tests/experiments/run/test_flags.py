"""absl flags from a settings dataclass: values, refusals, help."""

import dataclasses

import pytest
from absl import flags as absl_flags

from truncated_weights.experiments.run import flags
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    share: float = setting(0.5, "A share.", lower=0.0, upper=1.0)
    loud: bool = setting(False, "Shout.")
    model: str = setting("", "A model.", required=True)
    steps: tuple[int, ...] = setting((1, 2), "Steps.", lower=0)


def parse(*arguments, config_type=Example):
    values = absl_flags.FlagValues()
    flags.define(config_type, values)
    assert values(["program", *arguments])[1:] == []
    return flags.read(config_type, values)


def test_flags_become_settings():
    found = parse("--share=1e-1", "--loud", "--model=m", "--steps=3, 4")
    assert found == Example(share=0.1, loud=True, model="m", steps=(3, 4))
    assert parse("--noloud", "--model=m", "--steps=").steps == ()
    assert parse(config_type=NoisyRecall) == NoisyRecall()


def test_a_flag_file_counts_like_the_command_line(tmp_path):
    (tmp_path / "preset.flags").write_text("# a comment\n--share=0.25\n--steps=7\n")
    found = parse(f"--flagfile={tmp_path}/preset.flags", "--model=m", "--steps=8")
    assert (found.share, found.steps) == (0.25, (8,))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--share=1.5", r"--share=1.5: it must lie in \[0, 1\]"),
        ("--share=half", "'half' is not a number"),
        ("--share=0_5", "'0_5' is not a number"),
        ("--share=", "'' is not a number"),
        ("--steps=²", "'²' is not a whole number"),
        ("--steps=1.0", "'1.0' is not a whole number"),
        ("--steps=1,1", "1 is in it twice"),
        ("--steps=1,,2", "'' is not a whole number"),
        ("--model=", "it must be given"),
        ("--absent=1", "absent"),
    ],
)
def test_refusals_name_the_flag(argument, message):
    with pytest.raises(absl_flags.Error, match=message):
        parse(argument)


def test_what_is_required_is_asked_for():
    with pytest.raises(ValueError, match=r"--model must be given: A model\."):
        parse()


@pytest.mark.parametrize("width", [40, 80, 100])
def test_help_shows_every_flag_within_the_terminal(width):
    text = flags.usage("example", "What it answers.", {"settings": Example}, {"share": 0.75}, width)
    assert text.startswith("usage: python -m experiments.example [--FLAG=VALUE ...]\n")
    assert "What it answers." in text
    for shown in ("--share=0.75", "--[no]loud", "--model=", "--steps=1,2", "Must lie in [0, 1]."):
        assert shown in " ".join(text.split())
    if width > 50:
        assert max(map(len, text.splitlines())) <= width
