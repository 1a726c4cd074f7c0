"""The claims of all questions, by subject, in the order of the page."""

from truncated_weights.experiments.associative_memory import claims as associative_memory
from truncated_weights.experiments.find_noise import claims as find_noise
from truncated_weights.experiments.linearised import claims as linearised
from truncated_weights.experiments.noisy_recall.claims import (
    ablations,
    associations,
    attention,
    learning_order,
    memory_recalls,
    recall,
    spectra,
)
from truncated_weights.experiments.phase_diagram import claims as phase_diagram
from truncated_weights.experiments.plateau import claims as plateau
from truncated_weights.experiments.real_model import claims as real_model
from truncated_weights.experiments.run.claim import Subject
from truncated_weights.experiments.sweep import claims as sweep
from truncated_weights.experiments.train_mini_pythia import claims as train_mini_pythia
from truncated_weights.experiments.truncate import claims as truncate
from truncated_weights.experiments.truncate_model import claims as truncate_model
from truncated_weights.experiments.verify_theory import claims as verify_theory

SUBJECTS: dict[str, Subject] = {
    "recall": recall.SUBJECT,
    "learning_order": learning_order.SUBJECT.joined(linearised.CLAIMS, linearised.PICTURES),
    "attention": attention.SUBJECT.joined(verify_theory.ATTENTION),
    "memory_recalls": memory_recalls.SUBJECT,
    "spectra": spectra.SUBJECT,
    "along_training": truncate.SUBJECT,
    "ablations": ablations.SUBJECT,
    "associations": associations.SUBJECT,
    "scaling": sweep.SUBJECT,
    "rules": find_noise.SUBJECT,
    "memory": associative_memory.SUBJECT.joined(
        (*phase_diagram.CLAIMS, *verify_theory.MEMORY), phase_diagram.PICTURES
    ),
    "theory": verify_theory.SUBJECT.joined(plateau.CLAIMS, plateau.PICTURES),
    "mini_pythia": train_mini_pythia.SUBJECT,
    "models": truncate_model.SUBJECT.joined(real_model.CLAIMS, real_model.PICTURES),
}
