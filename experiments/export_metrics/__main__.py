"""What does any run look like in TensorBoard, Weights & Biases or a spreadsheet?

    python -m experiments.export_metrics --run=runs/noisy_recall --to=tensorboard
    tensorboard --logdir=runs/export_metrics

Turns metrics.jsonl, the settings and the summary of a run directory into what other dashboards
read: event files (extra `tensorboard`; no TensorFlow), an offline run of Weights & Biases (extra
`wandb`; `wandb sync` uploads it), or CSV. Seconds for thousands of lines; nothing is computed.
"""

from typing import Any

from truncated_weights.experiments.export_metrics.settings import ExportMetrics
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.export_metrics.measure import STUDY

    return STUDY


PROGRAM = Program("export_metrics", ExportMetrics, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
