"""The pictures of each subject, from whatever of its runs is there."""

from collections.abc import Callable, Mapping

from experiments.report.figures import others, recall
from experiments.report.figures.panel import Panel
from experiments.report.reading import Found
from experiments.run.program import note

Drawing = Callable[[Found], list[Panel]]


def _without(run: Found) -> list[Panel]:
    return recall.ablation(run, "no-feed-forward", "No feed-forward")


def _linear(run: Found) -> list[Panel]:
    return recall.ablation(run, "linear-feed-forward", "Linear feed-forward")


# Subject -> the run that is read and what draws it, in order.
DRAWINGS: dict[str, tuple[tuple[str, Drawing], ...]] = {
    "recall": (("recall", recall.learning),),
    "learning_order": (("recall", recall.margins), ("linearised", recall.lazy)),
    "attention": (("recall", recall.attention),),
    "memory_recalls": (("recall", recall.recalls),),
    "spectra": (("recall", recall.spectra),),
    "along_training": (("cuts", recall.along_training),),
    "ablations": (("no_feed_forward", _without), ("linear_feed_forward", _linear)),
    "associations": (("all_tokens", recall.bigrams),),
    "scaling": (("sweep", others.scaling),),
    "rules": (("rules", others.rules),),
    "memory": (
        ("memory_two", others.memory),
        ("memory_four", others.memory),
        ("phase", others.phase),
        ("memory_zipf", others.frequencies),
    ),
    "theory": (("theory", others.theory), ("plateau", others.plateau)),
    "mini_pythia": (("mini", others.mini), ("mini_dynamics", others.dynamics)),
    "models": (("model", others.changes),),
}


def panels(subject: str, found: Mapping[str, Found]) -> list[Panel]:
    """The pictures of a subject; a run of a language model is called model-NAME."""
    drawn = []
    for name, drawing in DRAWINGS.get(subject, ()):
        for run, value in found.items():
            if run == name or run.startswith(f"{name}-"):
                try:
                    drawn += drawing(value)
                except KeyError as error:
                    note(f"no picture of {run}: it holds no {error}")
    return drawn
