"""The claims, one small file per subject, in the order of the page."""

from experiments.report.claim import Subject
from experiments.report.claims import (
    ablations,
    along_training,
    associations,
    attention,
    learning_order,
    memory,
    memory_recalls,
    mini_pythia,
    models,
    recall,
    rules,
    scaling,
    spectra,
    theory,
)

SUBJECTS: dict[str, Subject] = {
    "recall": recall.SUBJECT,
    "learning_order": learning_order.SUBJECT,
    "attention": attention.SUBJECT,
    "memory_recalls": memory_recalls.SUBJECT,
    "spectra": spectra.SUBJECT,
    "along_training": along_training.SUBJECT,
    "ablations": ablations.SUBJECT,
    "associations": associations.SUBJECT,
    "scaling": scaling.SUBJECT,
    "rules": rules.SUBJECT,
    "memory": memory.SUBJECT,
    "theory": theory.SUBJECT,
    "mini_pythia": mini_pythia.SUBJECT,
    "models": models.SUBJECT,
}
