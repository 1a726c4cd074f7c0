import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.experiments.model_checkpoint import write_checkpoint, write_prompts
from truncated_weights import bridge
from truncated_weights.bridge import export, scoring, surgery
from truncated_weights.experiments.model_dynamics import measure as model_dynamics
from truncated_weights.experiments.model_dynamics.settings import ModelDynamics
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, RunFailedError, UserError
from truncated_weights.truncation import editing, finite
from truncated_weights.truncation.search.scorer import Scorer


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Steps 0 and 1 are one file, as in a real release; step 8 is another model."""
    folder = tmp_path_factory.mktemp("steps")
    write_checkpoint(folder / "step0", seed=0)
    shutil.copytree(folder / "step0", folder / "step1")
    write_checkpoint(folder / "step8", seed=1)
    (folder / "notes").mkdir()
    write_prompts(folder / "colours.jsonl")
    return folder


@pytest.fixture
def config(steps):
    return ModelDynamics(
        num_examples=12,
        max_length=64,
        checkpoints=str(steps),
        task=f"jsonl:{steps / 'colours.jsonl'}",
        interventions=("1.mlp@0", "0.fc_in@0.5"),
        spectra=("1.fc_out", "0.q_proj"),
        bootstrap=100,
    )


def go(config, out):
    study.run(model_dynamics.STUDY, config, Place("model_dynamics", str(out)))
    return RunDirectory(out), json.loads((out / "summary.json").read_text())


def test_every_step_against_its_checkpoint(config, steps, tmp_path, capsys):
    directory, summary = go(config, tmp_path / "run")
    plan, records = model_dynamics.prepare(config), directory.read_records()
    assert records.scores.step.values.tolist() == [0, 1, 8]
    for step in (0, 8):
        checkpoint = bridge.load(steps / f"step{step}")
        addresses = surgery.matrices(checkpoint.config)
        for model in ("full", *config.interventions):
            params = checkpoint.params
            if model != "full":
                params = editing.apply(params, model, addresses)
            expected = scoring.evaluate(params, checkpoint.config, plan.questions.encoded)
            for metric in ("p_the", "p_answer", "logit_difference"):
                found = records.scores[metric].sel(step=step, model=model)
                np.testing.assert_allclose(found, expected[metric], rtol=1e-4, atol=1e-6)
        for key in ((1, "fc_out"), (0, "q_proj")):
            matrix = np.asarray(addresses[key].read(checkpoint.params))
            values = np.linalg.svd(matrix, compute_uv=False)
            found = records.spectra.sel(step=step, matrix=f"{key[0]}.{key[1]}")
            found = found.singular_values.dropna("rank")
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)
    assert summary["identical_steps"] == "1"
    assert summary["last_step"] == 8
    np.testing.assert_allclose(
        summary["colours/full/p_the"],
        records.scores.p_the.sel(step=8, model="full").mean(),
        rtol=1e-6,
    )
    low, high = (summary[f"colours/full/loss_{end}"] for end in ("low", "high"))
    assert low < summary["colours/full/loss"] < high
    with (tmp_path / "run" / "dynamics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 3
    for name in ("along_training", "spectra"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").stat().st_size > 5_000
    printed = capsys.readouterr().out
    assert "identical to the step before in every figure: 1" in printed
    for name in ("along_training", "spectra"):
        image = tmp_path / "run" / "figures" / f"{name}.png"
        before = image.read_bytes()
        image.unlink()
        study.redraw(model_dynamics.STUDY, str(tmp_path / "run"))
        assert image.read_bytes() == before


def test_an_interrupted_run_measures_only_what_is_missing(config, tmp_path, monkeypatch):
    _, whole = go(config, tmp_path / "whole")
    measured = []
    original = model_dynamics.at_step

    def at_step(plan, step):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(step)
        return original(plan, step)

    monkeypatch.setattr(model_dynamics, "at_step", at_step)
    with pytest.raises(KeyboardInterrupt):
        go(config, tmp_path / "run")
    assert measured == [0, 1]
    measured.clear()
    _, continued = go(config, tmp_path / "run")
    assert measured == [8]
    assert continued == whole
    names = ("metrics.jsonl", "summary.json", "dynamics.csv")
    for name in names:
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_step_that_is_not_finite_stops_the_run(config, steps, tmp_path):
    folder = tmp_path / "steps"
    shutil.copytree(steps, folder)
    bad = bridge.load(folder / "step8")
    bad.params["final_norm"]["scale"] = bad.params["final_norm"]["scale"].at[0].set(np.inf)
    export.save(bad, folder / "step8", overwrite=True)
    broken = dataclasses.replace(config, checkpoints=str(folder))
    with pytest.raises(RunFailedError, match=r"step 8: .*step8: scores of 12 of 12 examples"):
        go(broken, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": "/nowhere"}, "not a directory"),
        ({"steps": (2,)}, "no step2"),
        ({"interventions": ("5.fc_in@0",)}, "layers 0-1"),
        ({"spectra": ("1.mlp",)}, "--spectra names '1.mlp'"),
        ({"spectra": ("fc_in",)}, "--spectra names 'fc_in'"),
        ({"task": "jsonl:/nowhere"}, "/nowhere: no such file"),
    ],
)
def test_bad_requests_end_before_any_work(config, changes, message):
    with pytest.raises(UserError, match=message):
        model_dynamics.prepare(dataclasses.replace(config, **changes))


def test_steps_of_another_architecture(config, steps, tmp_path):
    folder = tmp_path / "steps"
    shutil.copytree(steps, folder)
    text = (folder / "step8" / "config.json").read_text()
    (folder / "step8" / "config.json").write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(UserError, match="step 8 has another architecture"):
        model_dynamics.prepare(dataclasses.replace(config, checkpoints=str(folder)))
    with pytest.raises(UserError, match="holds no stepN"):
        model_dynamics.step_directories(str(folder / "notes"), ())


@pytest.mark.thorough
@pytest.mark.fault("A1")
def test_a_cut_that_leaves_the_numbers_has_no_figures(config, tmp_path, monkeypatch, capsys):
    evaluate = Scorer.evaluate

    def breaking(self, interventions, indices):
        found = evaluate(self, interventions, indices)
        found["loss"][1, 0] = np.inf
        return finite.void(found, self.weights(indices))

    monkeypatch.setattr(Scorer, "evaluate", breaking)
    one = dataclasses.replace(config, steps=(0, 8))
    directory, summary = go(one, tmp_path / "run")
    assert summary["not_finite"] == 2
    assert summary["colours/0.fc_in@0.5/accuracy"] is None
    assert summary["colours/full/accuracy"] is not None
    rows = directory.read_rows("dynamics.jsonl")
    assert [row["loss"] is None for row in rows] == [False, False, True] * 2
    assert "2 cuts left the finite numbers" in capsys.readouterr().out
    study.redraw(model_dynamics.STUDY, str(tmp_path / "run"))
