"""What the settings of a noisy-recall run stand for: language, task, model, trainer, records."""

import dataclasses
import functools
from typing import Any

import jax

from truncated_weights.toy import language, parts, recall, transformer
from truncated_weights.toy.probes import cuts, records
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.training import optimizer
from truncated_weights.training.loop import Measure, Measurement, Trainer, log_spaced
from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.notation import Intervention


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What a configuration stands for; building it touches no device.

    interventions are followed along training, curves are measured at the end.
    """

    config: NoisyRecall
    language: language.Language
    task: recall.Task
    model: TransformerConfig
    problem: RecallProblem
    interventions: tuple[Intervention, ...]
    curves: tuple[Intervention, ...]

    def trainer(self) -> Trainer:
        """The trainer on the devices asked for; ValueError where they do not fit."""
        config, local = self.config, jax.local_devices()
        count = config.devices or len(local)
        if count > len(local):
            raise ValueError(f"devices={count}, but this machine has {len(local)}")
        if config.batch_size % count:
            raise ValueError(f"batch_size={config.batch_size} does not divide over {count} devices")
        descent = optimizer.OptimizerConfig(
            name=config.optimizer,  # type: ignore[arg-type]
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            b2=config.b2,
            weight_decay=config.weight_decay,
            schedule=config.schedule,  # type: ignore[arg-type]
            warmup=config.warmup,
            steps=config.steps,
        )
        return Trainer(
            self.problem,
            self._descent(descent),
            tuple(range(config.seed, config.seed + config.num_seeds)),
            tuple(local[:count]),
            num_steps=config.steps,
        )

    def _descent(self, config: optimizer.OptimizerConfig) -> Any:
        build = functools.partial(optimizer.build, config)
        starts = dict(_unfreezing(text, self.model) for text in self.config.unfreeze)
        if not starts:
            return build

        def first(params: Any) -> Any:
            def of(path: tuple, leaf: Any) -> int:
                keys = [str(getattr(part, "key", getattr(part, "idx", part))) for part in path]
                return starts.get(".".join(keys[-2:]), 0)

            return jax.tree_util.tree_map_with_path(of, params)

        return lambda values: optimizer.unfreezing(build(values), first)

    def measurements(self) -> list[Measurement]:
        """What is recorded along training: models, mechanisms and, more rarely, spectra."""
        config = self.config
        usual = log_spaced(config.steps, every=config.eval_every)
        sparse = log_spaced(config.steps, every=config.spectrum_every or config.steps)
        models = records.measure_models(
            self.interventions, batch_size=config.eval_batch, variants=config.variants
        )
        found = [
            Measurement("models", models, usual),
            Measurement("mechanisms", records.measure_mechanisms, usual),
            Measurement("spectra", records.measure_spectra, sparse),
        ]
        if config.bigram_batch:
            bigrams = records.measure_bigrams(batch_size=config.bigram_batch)
            found.append(Measurement("bigrams", bigrams, usual))
        return found

    def last(self) -> Measure:
        """What is measured once, at the end: the cuts that were followed and all of the curves."""
        chosen = {str(cut): cut for cut in (*self.interventions, *self.curves)}
        return records.measure_models(
            list(chosen.values()), variants=self.config.variants, batch_size=self.config.final_batch
        )


def build(config: NoisyRecall) -> Setup:
    """Check that the settings go together and build what they stand for.

    Raises ValueError naming what cannot be.
    """
    words = _language(config)
    task = recall.make_task(
        words,
        alpha=config.alpha,
        length=config.length,
        num_triggers=config.num_triggers,
        triggers=_tokens(config.triggers, words, "triggers"),
        trigger_offset=config.trigger_offset,
        random_triggers=config.random_triggers,
        num_noise=config.num_noise,
        noise=_tokens(config.noise, words, "noise"),
        existing_noise=config.existing_noise,
        outputs=config.outputs,  # type: ignore[arg-type]
        scoring=config.scoring,  # type: ignore[arg-type]
    )
    names = {field.name for field in dataclasses.fields(TransformerConfig)}
    shared = {name: getattr(config, name) for name in names & set(vars(config))}
    model = TransformerConfig(vocab_size=task.vocab_size, **shared)
    parts.attention(model.attention), parts.activation(model.activation)
    where = transformer.matrices(model)
    along = config.interventions or default_interventions(model)
    interventions = tuple(notation.parse(text) for text in along)
    curves = tuple(notation.parse(text) for text in curve_grid(model, config.rhos))
    for chosen in (*interventions, *curves):
        editing.resolve(chosen, where)
    for name in config.variants:
        cuts.variant(model, name)
    for text in config.unfreeze:
        _unfreezing(text, model)
    last = model.feed_forward[-1]
    if config.last_residual_steps and (last != "none" or not model.last_residual):
        raise ValueError(
            "last_residual_steps needs a last layer without feed-forward that has last_residual"
        )
    problem = RecallProblem(
        task,
        model,
        config.batch_size,
        config.loss_on,  # type: ignore[arg-type]
        config.initial_scale,
        config.last_residual_steps,
    )
    return Setup(config, words, task, model, problem, interventions, curves)


def default_interventions(model: TransformerConfig) -> tuple[str, ...]:
    """The cuts followed along training: those that part what this architecture learns."""
    last = model.num_layers - 1
    first = ("0.mlp@0",) if last > 0 and model.feed_forward[0] != "none" else ()
    names = model.feed_forward_names(last)
    cuts: tuple[str, ...]
    if len(names) == 2:
        cuts = ("mlp@0", "fc_in@0.1", "fc_in@0.2", "fc_out@0.02")
    elif names:
        cuts = ("fc_in@0", "fc_in@0.1", "fc_in@-0.02")
    else:
        product = "ov" if (last, "ov") in transformer.matrices(model) else "out_proj"
        cuts = (f"{product}@0.1", f"{product}@0.2")
    return (*(f"{last}.{cut}" for cut in cuts), *first)


def curve_grid(model: TransformerConfig, rhos: tuple[str, ...]) -> tuple[str, ...]:
    """Every matrix of the last layer at every rho: models that share all the layers below."""
    last = model.num_layers - 1
    names = [name for layer, name in transformer.matrices(model) if layer == last]
    return tuple(f"{last}.{name}@{rho}" for name in names for rho in rhos)


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


def _unfreezing(text: str, model: TransformerConfig) -> tuple[str, int]:
    """LAYER.MATRIX and the step from which it learns."""
    name, colon, step = text.partition(":")
    layers = range(model.num_layers)
    learned = {f"{i}.{m}" for i in layers for m in model.names(i)} - set(model.frozen)
    if name not in learned:
        raise ValueError(f"unfreeze names {name!r}; learned are {' '.join(sorted(learned))}")
    if not colon or not step.isdigit():
        raise ValueError(f"unfreeze has {text!r}; it should be as 1.fc_in:300")
    return name, int(step)


def _tokens(texts: tuple[str, ...], words: language.Language, setting: str) -> tuple[int, ...]:
    """Tokens by symbol or by index."""
    tokens = []
    for text in texts:
        if words.symbols and text in words.symbols:
            tokens.append(words.symbols.index(text))
        elif text.isdigit():
            tokens.append(int(text))
        else:
            raise ValueError(f"{setting} names {text!r}, which is no token of the language")
    return tuple(tokens)
