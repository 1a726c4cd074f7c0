"""What the model says of every fact before and after the best cut of one checkpoint."""

from pathlib import Path

import numpy as np

import bridge
from bridge import encoding, surgery, tokenizer
from experiments.fact_frequency.facts import Facts
from experiments.fact_frequency.settings import FactFrequency
from experiments.run import model_setup
from experiments.run.program import UserError, user_errors
from truncation import notation, rules
from truncation.notation import Intervention
from truncation.search.problem import SearchProblem

SCORES = ("p_answer", "p_the", "accuracy", "loss")


def candidates(config: FactFrequency, architecture: bridge.Config) -> tuple[Intervention, ...]:
    """Every cut of one matrix that may be the best; UserError for a name or a fraction."""
    keys = model_setup.parse_keys(config.matrices, (), architecture)
    with user_errors():
        return tuple(notation.candidates(keys, config.rhos))


def measure(config: FactFrequency, facts: Facts, path: Path) -> tuple[dict[str, np.ndarray], str]:
    """before/SCORE and after/SCORE [facts], and the cut: the best on validation by the loss.

    The best cut is taken even where it does not beat the whole model: it is what is compared.
    """
    with user_errors():
        checkpoint = bridge.load(path)
        words = tokenizer.read(path)
        encoded = encoding.encode_examples(
            facts.examples, words, num_tokens=checkpoint.config.vocab_size, max_distractors=0
        )
    if len(encoded) < len(facts.examples):
        raise UserError(f"{path}: {encoded.dropped[0]}")
    scorer = surgery.scorer(checkpoint, encoded)
    problem = SearchProblem(scorer, candidates(config, checkpoint.config), facts.validation)
    outcome = rules.run(
        config.search, problem, objective="loss", seed=config.seed, samples=config.bootstrap
    )
    every = np.arange(len(facts.examples))
    found: dict[str, np.ndarray] = {}
    for label, scores in (
        ("before", scorer.full(every)),
        ("after", scorer.of_params(outcome.nearest.params(scorer.decompositions), every)),
    ):
        found |= {f"{label}/{name}": scores[name][:, 0] for name in SCORES}
    return found, outcome.nearest.name
