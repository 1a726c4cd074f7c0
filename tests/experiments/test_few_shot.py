"""Few-shot problems end to end on a tiny model: kept, continued, compared, refused."""

import dataclasses
import json

import numpy as np
import pytest

from tests.experiments import model_checkpoint
from truncated_weights import bridge
from truncated_weights.bridge.tasks import Marking
from truncated_weights.bridge.tasks.example import Example
from truncated_weights.bridge.tasks.metrics import generated
from truncated_weights.experiments.few_shot import measure
from truncated_weights.experiments.few_shot.__main__ import PROGRAM
from truncated_weights.experiments.few_shot.measure import STUDY
from truncated_weights.experiments.few_shot.settings import FewShot
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, UserError

pytest.importorskip("tokenizers")
CUT = "1.fc_out@0.25"


def lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few_shot")
    problems = [
        {"question": f"{i} red hats and {j}?", "answer": f"It is {i + j}.\n#### {i + j}"}
        for i, j in ((1, 2), (3, 4), (10, 5), (0, 7), (2, 2))
    ]
    shots = [
        {"question": f"{i} and 1?", "target": f"{i} + 1 is {i + 1}. The answer is {i + 1}."}
        for i in range(3)
    ]
    return {
        "model": str(model_checkpoint.write_checkpoint(folder / "model")),
        "problems": lines(folder / "test.jsonl", problems),
        "exemplars": lines(folder / "shots.jsonl", shots),
    }


def settings(files, **changes):
    given = {
        **files,
        "shots": (0, 2),
        "interventions": (CUT,),
        "new_tokens": 5,
        "batch": 2,
        "bootstrap": 200,
    }
    return FewShot(**(given | changes))


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    study.run(STUDY, settings(files), Place("few_shot", str(out)))
    return out


def read(out):
    return json.loads((out / "summary.json").read_text())


def test_every_problem_is_answered_and_marked(finished):
    rows = [json.loads(line) for line in (finished / "generations.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 5
    summary = read(finished)
    for model in ("full", CUT):
        for shots in (0, 2):
            own = [row for row in rows if (row["model"], row["shots"]) == (model, shots)]
            again = [
                generated.marks(
                    Example("Q", " A", gold=row["gold"]), row["generated"], Marking("number", 5)
                )
                for row in own
            ]
            for mark in measure.MARKS:
                mean = np.mean([one[mark] for one in again])
                assert summary[f"{shots}/{model}/{mark}"] == pytest.approx(mean)
    assert all("Q:" not in row["generated"] for row in rows)


def test_changes_are_to_the_full_model_on_the_same_problems(finished):
    summary = read(finished)
    loss = RunDirectory(finished).read_records().scores.loss
    for shots in (0, 2):
        full, cut = (loss.sel(shots=shots, model=model) for model in ("full", CUT))
        assert summary[f"{shots}/full/loss_change"] == 0
        change = summary[f"{shots}/{CUT}/loss_change"]
        assert change == pytest.approx(float(np.mean(cut - full)), rel=1e-5)
        assert summary[f"{shots}/{CUT}/loss_change_low"] <= change
        assert change <= summary[f"{shots}/{CUT}/loss_change_high"]
    assert not np.allclose(full, cut)


def test_an_interrupted_run_answers_only_what_is_missing(finished, files, tmp_path, monkeypatch):
    real, count = measure.answers.stream, []

    def breaking(*arguments, **keywords):
        for found in real(*arguments, **keywords):
            yield found
            count.append(found)
            if len(count) == 7:
                raise KeyboardInterrupt

    out, place = tmp_path / "run", Place("few_shot", str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(measure.answers, "stream", breaking)
        with pytest.raises(KeyboardInterrupt):
            study.run(STUDY, settings(files), place)
    again = []

    def counting(*arguments, **keywords):
        for found in real(*arguments, **keywords):
            again.append(found)
            yield found

    monkeypatch.setattr(measure.answers, "stream", counting)
    study.run(STUDY, settings(files), place)
    # Five of the first condition and a batch of the second were kept.
    assert len(again) == 20 - 5 - 2
    assert read(out) == read(finished)
    (out / "figures" / "by_shots.png").unlink()
    study.redraw(STUDY, str(out))
    assert (out / "figures" / "by_shots.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shots": (4,)}, "shots=4, .* has 3"),
        ({"exemplars": ""}, "shots need exemplars=FILE"),
        ({"style": "plain"}, "needs train=FILE"),
        ({"interventions": ("7.fc_out@0",)}, "7"),
        ({"problems": "/nowhere.jsonl"}, "no such file"),
        ({"new_tokens": 2048}, "leave no room for 2048 tokens"),
    ],
)
def test_what_cannot_be_is_refused(files, tmp_path, changes, problem):
    with pytest.raises(UserError, match=problem):
        study.run(STUDY, settings(files, **changes), Place("few_shot", str(tmp_path / "run")))


def test_the_full_model_alone(files, tmp_path):
    out = tmp_path / "run"
    config = settings(files, interventions=(), shots=(1,), num_examples=3)
    study.run(STUDY, config, Place("few_shot", str(out)))
    assert {name.split("/")[1] for name in read(out)} == {"full"}
    assert len(measure.prepare(config).asked[1].examples) == 3


@pytest.mark.parametrize("preset", ["gsm8k_llama31", "gsm8k_phi3"])
def test_presets_are_read(preset, capsys):
    """Read to the end: what is missing then is the model, not a flag."""
    flags = f"--flagfile=experiments/few_shot/{preset}.flags"
    assert PROGRAM.run([flags, "--model=/nowhere", "--problems=x", "--exemplars=y"]) == 2
    assert "/nowhere" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.fault("A1")
def test_a_cut_that_says_nan_has_no_figures(files, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    monkeypatch.setattr(bridge, "cut", _broken)
    study.run(STUDY, settings(files, shots=(0,), num_examples=2), Place("few_shot", str(out)))
    summary = read(out)
    assert (summary[f"0/{CUT}/not_finite"], summary["0/full/not_finite"]) == (1, 0)
    assert summary[f"0/{CUT}/number"] is summary[f"0/{CUT}/loss_high"] is None
    assert summary["0/full/loss"] > 0
    said = capsys.readouterr()
    assert f"{CUT}, 0 shots: no figures, {files['model']}: logits behind 2 of 2" in said.err
    assert f"  0/{CUT:26s}       -" in said.out
    study.redraw(STUDY, str(out))
    monkeypatch.setattr(bridge, "load", lambda *a, **k: _broken(load(*a, **k), ""))
    with pytest.raises(bridge.NotFiniteError, match="logits behind"):
        study.run(STUDY, settings(files, shots=(0,)), Place("few_shot", str(tmp_path / "nan")))


load = bridge.load


def _broken(checkpoint, text):
    params = {**checkpoint.params, "layers": list(checkpoint.params["layers"])}
    norm = params["layers"][1]["mlp_norm"]
    params["layers"][1] = {
        **params["layers"][1], "mlp_norm": {**norm, "scale": norm["scale"] * np.nan}
    }  # fmt: skip
    return dataclasses.replace(checkpoint, params=params)
