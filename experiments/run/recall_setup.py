"""The settings of a noisy-recall run, and the objects they stand for.

Shared by every program that makes such a run or reads one back.
"""

import dataclasses
from pathlib import Path

import jax

from experiments.run.directory import settings_of
from experiments.run.program import UserError, user_errors
from toy import language, recall, transformer
from toy.recall_problem import RecallProblem
from toy.settings import NoisyRecall
from training import optimizer
from training.checkpoint import Store
from training.loop import State, Trainer
from truncation import intervention
from truncation.intervention import Intervention


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What a configuration stands for; building it touches no device."""

    config: NoisyRecall
    language: language.Language
    task: recall.Task
    model: transformer.TransformerConfig
    problem: RecallProblem
    interventions: tuple[Intervention, ...]
    curves: tuple[Intervention, ...]

    def trainer(self) -> Trainer:
        """The trainer on the devices asked for; UserError where they do not fit."""
        local = jax.local_devices()
        count = self.config.devices or len(local)
        if count > len(local):
            raise UserError(f"--devices={count}, but this machine has {len(local)}")
        if self.config.batch_size % count:
            raise UserError(
                f"--batch_size={self.config.batch_size} does not divide over {count} devices"
            )
        seeds = range(self.config.seed, self.config.seed + self.config.num_seeds)
        with user_errors():
            descent = optimizer.build(
                optimizer.OptimizerConfig(
                    name=self.config.optimizer,  # type: ignore[arg-type]
                    learning_rate=self.config.learning_rate,
                    momentum=self.config.momentum,
                    weight_decay=self.config.weight_decay,
                    schedule=self.config.schedule,  # type: ignore[arg-type]
                    warmup=self.config.warmup,
                    steps=self.config.steps,
                )
            )
        return Trainer(self.problem, descent, tuple(seeds), tuple(local[:count]))


def build(config: NoisyRecall) -> Setup:
    """Check a configuration and build what it stands for; UserError says what cannot be."""
    with user_errors():
        words = _language(config)
        task = recall.make_task(
            words,
            alpha=config.alpha,
            length=config.length,
            num_triggers=config.num_triggers,
            triggers=_triggers(config, words),
            num_noise=config.num_noise,
            existing_noise=config.existing_noise,
            scoring=config.scoring,  # type: ignore[arg-type]
        )
        model = transformer.TransformerConfig(
            vocab_size=task.vocab_size,
            length=config.length,
            d_model=config.d_model,
            d_hidden=config.d_hidden,
            feed_forward=config.feed_forward,  # type: ignore[arg-type]
            positions=config.positions,  # type: ignore[arg-type]
            learned_query=config.learned_query,
            attention_residual=config.attention_residual,
            feed_forward_residual=config.feed_forward_residual,
            frozen=config.frozen,
            trained=config.trained,
        )
        where = transformer.matrices(model)
        along = config.interventions or default_interventions(model)
        interventions = tuple(intervention.parse(text) for text in along)
        curves = tuple(intervention.parse(text) for text in curve_grid(model, config.rhos))
        for chosen in (*interventions, *curves):
            intervention.resolve(chosen, where)
    problem = RecallProblem(task, model, config.batch_size)
    return Setup(config, words, task, model, problem, interventions, curves)


def default_interventions(model: transformer.TransformerConfig) -> tuple[str, ...]:
    """The cuts followed along training: those that tell the story of this architecture."""
    last = model.num_layers - 1
    kinds = {
        "mlp": (f"{last}.mlp@0", f"{last}.fc_in@0.1", f"{last}.fc_in@0.2", f"{last}.fc_out@0.02"),
        "linear": (f"{last}.fc_in@0", f"{last}.fc_in@0.1", f"{last}.fc_in@-0.02"),
        "none": (f"{last}.ov@0.1", f"{last}.ov@0.2"),
    }
    first = ("0.mlp@0",) if last > 0 and model.feed_forward[0] != "none" else ()
    return (*kinds[model.feed_forward[last]], *first)


def curve_grid(model: transformer.TransformerConfig, rhos: tuple[str, ...]) -> tuple[str, ...]:
    """Every matrix of the last layer at every rho: what shares all the layers below."""
    last = model.num_layers - 1
    return tuple(f"{last}.{name}@{rho}" for name in (*model.names(last), "ov") for rho in rhos)


def read_setup(path: str | Path) -> Setup:
    """The setup of a run directory; UserError where it is not one of noisy_recall."""
    return build(settings_of(path, "noisy_recall", NoisyRecall))


def restore(path: str | Path, step: int | None = None) -> tuple[Setup, int, State]:
    """A run's setup and the state of one checkpoint (the last by default), on one device."""
    setup = read_setup(path)
    setup = dataclasses.replace(setup, config=dataclasses.replace(setup.config, devices=1))
    with user_errors():
        state = Store(Path(path) / "checkpoints").restore(setup.trainer().abstract(), step)
    if state is None:
        raise UserError(f"{path} has no checkpoint")
    return setup, int(state.step), state


def _language(config: NoisyRecall) -> language.Language:
    if config.text:
        return language.read(config.text)
    if config.language == "uniform":
        return language.uniform(config.num_tokens)
    return language.zipf(
        config.num_tokens,
        exponent=config.zipf_exponent,
        concentration=config.concentration,
    )


def _triggers(config: NoisyRecall, words: language.Language) -> tuple[int, ...]:
    tokens = []
    for text in config.triggers:
        if words.symbols and text in words.symbols:
            tokens.append(words.symbols.index(text))
        elif text.isdigit():
            tokens.append(int(text))
        else:
            raise ValueError(f"--triggers names {text!r}, which is no token of the language")
    return tuple(tokens)
