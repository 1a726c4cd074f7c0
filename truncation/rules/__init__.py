"""Selection rules by name: every file of this folder is a rule with a function `run`.

    outcome = rules.run("grid", problem, objective="loss", seed=0)

Adding a rule is adding its file:

    def run(problem, *, objective="accuracy", seed=0, samples=2000, ...) -> Outcome

Names can be listed without importing a rule, and so without JAX: programs offer them as flags.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truncated_weights.truncation.search.problem import Outcome, SearchProblem

COMMON = ("objective", "seed", "samples")


@functools.cache
def names() -> tuple[str, ...]:
    """The rules there are, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def get(name: str) -> Callable[..., "Outcome"]:
    """The function of a rule; ValueError where there is none of this name."""
    if name not in names():
        raise ValueError(f"rule {name!r}: known are {' '.join(names())}")
    run: Callable[..., Any] = importlib.import_module(f"{__name__}.{name}").run
    return run


def options(name: str) -> tuple[str, ...]:
    """Keywords of a rule beside the common objective, seed and samples."""
    parameters = list(inspect.signature(get(name)).parameters)[1:]
    return tuple(parameter for parameter in parameters if parameter not in COMMON)


def run(name: str, problem: "SearchProblem", **keywords: Any) -> "Outcome":
    """One rule on one problem; ValueError names a keyword that the rule does not have."""
    unknown = set(keywords) - {*COMMON, *options(name)}
    if unknown:
        raise ValueError(
            f"rule {name!r} has no option {min(unknown)!r}; "
            f"it has {' '.join((*COMMON, *options(name)))}"
        )
    return get(name)(problem, **keywords)
