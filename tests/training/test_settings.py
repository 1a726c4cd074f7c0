"""A setting written once: what the rule of a field lets through, and how a breach is told."""

import dataclasses
import math

import pytest

from truncated_weights.training import settings
from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    share: float = setting(0.5, "A share.", lower=0.0, upper=1.0)
    count: int = setting(3, "A count.", lower=1)
    law: str = setting("zipf", "A law.", choices=("zipf", "uniform"))
    loud: bool = setting(False, "Shout.")
    name: str = setting("x", "A name.", required=True)
    steps: tuple[int, ...] = setting((), "Steps.", lower=0)
    rhos: tuple[str, ...] = setting(("0.1",), "Fractions.")
    layers: tuple[str, ...] = setting(
        ("mlp", "mlp"), "Layers.", choices=("mlp", "none"), repeats=True
    )


@pytest.mark.parametrize(
    "given",
    [
        {"share": 0.0}, {"share": 1}, {"count": 10**30}, {"law": "uniform"}, {"loud": True},
        {"steps": (0, 3)}, {"rhos": ()}, {"layers": ("mlp", "none", "mlp")},
    ],
)  # fmt: skip
def test_values_within_their_rule(given):
    ((name, value),) = given.items()
    assert getattr(Example(**given), name) == value
    assert hash(Example(**given)) == hash(Example(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.5}, r"share is 1.5; it must lie in \[0, 1\]"),
        ({"share": math.nan}, "share is nan; it must be finite"),
        ({"share": -math.inf}, "share is -inf; it must be finite"),
        ({"share": "0.5"}, "share is '0.5'; it must be a number"),
        ({"share": True}, "share is True; it must be a number"),
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"count": 2.0}, "count is 2.0; it must be a whole number"),
        ({"count": True}, "count is True; it must be a whole number"),
        ({"law": "gauss"}, "law is 'gauss'; it must be one of zipf, uniform"),
        ({"law": 3}, "law is 3; it must be a string"),
        ({"loud": 1}, "loud is 1; it must be True or False"),
        ({"name": ""}, "name is ''; it must be given"),
        ({"steps": (3, -1)}, "steps is 3,-1; for -1: it must be at least 0"),
        ({"steps": [3]}, "it must be a tuple"),
        ({"steps": (3, 3)}, "3 is in it twice"),
        ({"rhos": ("0.1", "0.10")}, "'0.10' is in it twice"),
        ({"rhos": ("1", "")}, "an entry is empty"),
        ({"layers": ("mlp", "square")}, "for 'square': it must be one of mlp, none"),
    ],
)
def test_a_breach_names_the_setting_and_the_rule(given, message):
    with pytest.raises(ValueError, match=message):
        Example(**given)


def test_a_copy_is_checked_too():
    with pytest.raises(ValueError, match="share is 2"):
        dataclasses.replace(Example(), share=2.0)


def test_types_are_read_from_the_annotations():
    assert settings.kinds(Example)["steps"] == (int, True)
    assert settings.kinds(Example)["share"] == (float, False)
    assert [settings.bounds(settings.rule(f)) for f in dataclasses.fields(Example)[:3]] == [
        "lie in [0, 1]",
        "be at least 1",
        "",
    ]
