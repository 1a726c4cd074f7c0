"""What every figure must be, whatever the records were."""

import numpy as np

from truncated_weights.experiments.run.drawing.panel import render

# What lost seeds had recorded before: no line may show it.
TRAP = 77.0


def require_drawn(figures):
    """Every panel of these figures has finite limits, and none draws the trap; their names."""
    names = []
    for figure in figures:
        names.append(figure.name)
        for axes in render(figure).axes:
            assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all(), figure.name
            for line in axes.lines:
                assert not np.any(np.asarray(line.get_ydata()) == TRAP), figure.name
    assert names
    return names
