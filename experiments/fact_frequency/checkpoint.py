"""What the model says of every fact before and after the best cut of one checkpoint."""

from pathlib import Path

import numpy as np
import xarray as xr

from truncated_weights import bridge
from truncated_weights.bridge import encoding, surgery, tokenizer
from truncated_weights.experiments.fact_frequency.facts import Facts
from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.program import RunFailedError, UserError, user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.training.records import name
from truncated_weights.truncation import notation, rules
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search.problem import SearchProblem

SCORES = ("p_answer", "p_the", "accuracy", "loss")


def candidates(config: FactFrequency, architecture: bridge.Config) -> tuple[Intervention, ...]:
    """Every cut of one matrix that may be the best; UserError for a name or a fraction."""
    keys = model_setup.parse_keys(config.matrices, (), architecture)
    with user_errors():
        return tuple(notation.candidates(keys, config.rhos))


def measure(config: FactFrequency, facts: Facts, path: Path) -> xr.Dataset:
    """SCORES [model, fact] before and after the cut `chosen`: the best on validation by the loss.

    The best cut is taken even where it does not beat the whole model: it is what is compared.
    RunFailedError where a score is no finite number.
    """
    stage(f"measuring {path}")
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
    said = {
        "before": scorer.full(every),
        "after": scorer.of_params(outcome.nearest.params(scorer.decompositions), every),
    }
    found = facts.labelled(
        {
            name(score, "fact", model=model): scores[score][:, 0]
            for score in SCORES
            for model, scores in said.items()
        }
    )
    if bad := [score for score in SCORES if not np.isfinite(found[score]).all()]:
        raise RunFailedError(f"{path}: {bad[0]} is not finite; earlier steps are kept")
    return found.assign(chosen=outcome.nearest.name)
