"""The first steps of the two-layer Transformer, trained and foretold: what families share.

One setting for all: d = T = 64, batch 64, heavy ball at rate 0.03 and momentum 0.9.
"""

import functools

import numpy as np
from jaxtyping import Float

from truncated_weights.theory import lazy
from truncated_weights.toy import linearised, recall, transformer
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training import optimizer
from truncated_weights.training.loop import Trainer
from truncated_weights.training.records import name

WIDTH, LENGTH, BATCH = 64, 64, 64
# Room for the losses of so many steps, whatever is run: families then share their programs.
AT_MOST = 8
DESCENT = optimizer.OptimizerConfig(learning_rate=0.03, momentum=0.9, weight_decay=0.0)


def model(task: recall.Task) -> transformer.TransformerConfig:
    """The Transformer of this setting."""
    return transformer.TransformerConfig(task.vocab_size, LENGTH, d_model=WIDTH)


def trained(
    task: recall.Task, seeds: tuple[int, ...], steps: int, *, linear: bool = False
) -> Float[np.ndarray, "steps_and_start seeds"]:
    """p(noise) on clean sequences at the start and after each step.

    linear: train the linearisation instead. alpha is traced: only another number of tokens
    compiles anew.
    """
    config = model(task)
    matrices = linearised.matrices(config) if linear else ()
    problem = linearised.LinearisedProblem(RecallProblem(task, config, BATCH), matrices)
    trainer = Trainer(
        problem,
        functools.partial(optimizer.build, DESCENT),
        seeds,
        num_steps=AT_MOST,
        values={"alpha": np.full(len(seeds), task.alpha, np.float32)},
    )
    measure = trainer.measure(linearised.measure(problem, batch_size=BATCH))
    state = trainer.init()
    found = [np.asarray(measure(state)[name("p_noise")], np.float64)]
    for _ in range(steps):
        state = trainer.advance(state, 1)
        found.append(np.asarray(measure(state)[name("p_noise")], np.float64))
    return np.array(found)


def foretold(task: recall.Task, alpha: float, steps: int) -> lazy.Curves:
    """What theory/lazy says of the same steps with no network at hand."""
    return lazy.trigger_curves(
        width=WIDTH,
        hidden=4 * WIDTH,
        num_outputs=task.outputs.size,
        num_classes=task.vocab_size,
        alpha=alpha,
        learning_rate=DESCENT.learning_rate,
        momentum=DESCENT.momentum,
        steps=steps,
    )
