import csv
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.experiments.model_checkpoint import PROMPTS, write_checkpoint, write_prompts
from truncated_weights import bridge
from truncated_weights.bridge import scoring, surgery, tokenizer
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.truncate_model import plan as truncate_model
from truncated_weights.experiments.truncate_model.measure import STUDY
from truncated_weights.experiments.truncate_model.settings import TruncateModel
from truncated_weights.truncation import editing


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return write_prompts(tmp_path_factory.mktemp("prompts") / "colours.jsonl")


@pytest.fixture
def settings(model, prompts):
    return {
        "max_length": 64,
        "model": str(model),
        "tasks": (f"jsonl:{prompts}",),
        "rhos": ("0.5", "0"),
        "removed": (0.1, 0.5),
        "objective": "loss",
        "fraction": 0.8,
        "validation": 0.5,
        "bootstrap": 100,
    }


def go(settings, out, **changes):
    config = TruncateModel(**{**settings, **changes})
    plan = truncate_model.make_plan(config)
    study.run(STUDY, config, Place("truncate_model", str(out)))
    return plan, RunDirectory(out), json.loads((out / "summary.json").read_text())


def rows_of(directory, name):
    with (directory.path / name).open() as file:
        return list(csv.DictReader(file))


def test_a_grid_in_a_metric_of_the_data_finds_its_own_cuts(settings, tmp_path):
    """A tenth of the rank by what it does to prompts; with all kept it is the model."""
    rhos = ("whitened:0.1", "kfac:0.1", "whitened:1", "0.1")
    _, _, summary = go(
        settings, tmp_path / "run", search="grid", rhos=rhos, matrices=("fc_in",), layers=(1,)
    )
    loss = {
        rho: summary[f"colours/validation/1.fc_in@{rho}/loss"]
        for rho in ("whitened:0.1", "kfac:0.1", "0.1", "whitened:1")
    }
    full = summary["colours/validation/full/loss"]
    assert loss.pop("whitened:1") == pytest.approx(full, rel=1e-5)
    assert len({round(value, 5) for value in (*loss.values(), full)}) == 4


def test_interventions_against_edited_checkpoints(settings, tmp_path, capsys):
    texts = ("1.mlp@0", "0.fc_in@0.5+1.q_proj@0.25")
    plan, directory, summary = go(settings, tmp_path / "run", interventions=texts)
    checkpoint = bridge.load(settings["model"])
    (one,) = plan.questions
    assert len(one.validation) + len(one.test) == len(PROMPTS)
    matrices = surgery.matrices(checkpoint.config)
    for text in ("full", *texts):
        params = checkpoint.params
        if text != "full":
            params = editing.apply(params, text, matrices)
        expected = scoring.evaluate(params, checkpoint.config, one.encoded)
        for split, indices in (("validation", one.validation), ("test", one.test)):
            for metric in ("loss", "accuracy", "p_the", "logit_difference", "choice"):
                np.testing.assert_allclose(
                    summary[f"colours/{split}/{text}/{metric}"],
                    expected[metric][indices].mean(),
                    rtol=1e-4,
                    atol=1e-6,
                )
    low, high = (summary[f"colours/test/1.mlp@0/loss_change_{end}"] for end in ("low", "high"))
    assert low < summary["colours/test/1.mlp@0/loss_change"] < high

    assert len(rows_of(directory, "colours_candidates.csv")) == 3
    parts = rows_of(directory, "colours_parts.csv")
    assert [row["part"] for row in parts] == ["full", "kept", "removed"]
    said = rows_of(directory, "colours_predictions.csv")
    assert [row["prompt"] for row in said] == [one.encoded.examples[i].prompt for i in one.test]
    for row in said:
        assert (float(row["full_rank"]) == 1) == (row["full_top1"] == row["answer"])
        assert float(row["cut_p1"]) >= float(row["cut_p2"]) > 0
    flips = rows_of(directory, "colours_flips.csv")
    assert {row["covariate"] for row in flips} == {"all", "frequency"}
    assert sum(int(r["answers"]) for r in flips if r["covariate"] == "frequency") == len(one.test)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["intervention"] for line in lines] == ["full", *texts]
    assert (tmp_path / "run" / "figures" / "colours_before_after.png").stat().st_size > 5_000
    loss = directory.read_records().scores.loss.sel(task="colours")
    shown = summary["colours/chosen"] if summary["colours/chosen"] != "full" else loss.model[-1]
    expected = scoring.evaluate(
        editing.apply(checkpoint.params, str(np.asarray(shown)), matrices),
        checkpoint.config,
        one.encoded,
    )["loss"]
    np.testing.assert_allclose(loss.sel(model=shown), expected[one.test], rtol=1e-4)
    printed = capsys.readouterr().out
    assert "removed  part says" in printed


def test_the_grid_chooses_on_validation_and_saves_the_choice(settings, tmp_path, capsys):
    saved = tmp_path / "edited"
    changes = {"search": "grid", "save": str(saved), "factored": True, "rhos": ("0.5", "0.2", "0")}
    plan, directory, summary = go(settings, tmp_path / "run", **changes)
    name = summary["colours/chosen"]
    rows = {row["intervention"]: row for row in rows_of(directory, "colours_candidates.csv")}
    assert len(rows) == 1 + 2 * 2 * 3
    losses = {key: float(row["validation/loss"]) for key, row in rows.items()}
    # The cut that changes least in the loss would be no choice: this model is random, and
    # some cut brings it nearer to uniform, which is better than being wrong with confidence.
    assert name == min(losses, key=losses.get) != "full"
    tested = [key for key, row in rows.items() if row.get("test/loss")]
    assert sorted(tested) == sorted(["full", name])
    assert (tmp_path / "run" / "figures" / "colours_heatmap_loss.png").exists()

    words = tokenizer.read(saved)
    (one,) = plan.questions
    assert words("The hat") == plan.words("The hat")
    edited = bridge.load(saved)
    found = scoring.evaluate(edited.params, edited.config, one.encoded)["loss"][one.test].mean()
    np.testing.assert_allclose(found, summary[f"colours/test/{name}/loss"], rtol=1e-4)
    assert "saved:" in capsys.readouterr().out


@pytest.mark.fault("A9")
def test_a_dtype_that_cannot_be_saved_is_told_before_the_search(settings, model, tmp_path):
    wide = tmp_path / "wide"
    shutil.copytree(model, wide)
    arrays = safetensors.numpy.load_file(wide / "model.safetensors")
    arrays["gpt_neox.final_layer_norm.bias"] = arrays["gpt_neox.final_layer_norm.bias"].astype(
        float
    )
    safetensors.numpy.save_file(arrays, wide / "model.safetensors")
    asked = {**settings, "model": str(wide), "search": "grid", "save": str(tmp_path / "edited")}
    with pytest.raises(UserError, match="final_norm/bias is stored in float64, which is not"):
        study.run(STUDY, TruncateModel(**asked), Place("truncate_model", str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="--save_dtype is about --save"):
        truncate_model.make_plan(TruncateModel(**asked | {"save": "", "save_dtype": "float32"}))


@pytest.mark.parametrize("search", ["greedy", "gradient_guided", "eigenprune"])
def test_the_other_searches_do_not_lose_on_validation(settings, tmp_path, search):
    changes = {"search": search, "layers": (-1,), "num_examples": 16}
    _, directory, summary = go(settings, tmp_path / "run", **changes)
    rows = rows_of(directory, "colours_candidates.csv")
    losses = [float(row["validation/loss"]) for row in rows if row["validation/loss"]]
    assert len(losses) >= 2
    chosen = summary["colours/chosen"]
    full = summary["colours/validation/full/loss"]
    assert summary[f"colours/validation/{chosen}/loss"] <= full
    if search == "eigenprune":
        randoms = [row for row in rows if "random" in row["intervention"]]
        assert len(randoms) == 3
        assert all(row["test/loss"] for row in randoms)
        assert len({row["removed"] for row in randoms}) == 1
        told = rows_of(directory, "colours_components.csv")
        # fc_in does not write to the stream; one row per removed component of fc_out.
        assert {(row["layer"], row["matrix"]) for row in told} == {("1", "fc_out")}
        assert len({row["component"] for row in told}) == len(told) <= 8
        assert all(row["end"] in ("+", "-") and float(row["strength"]) >= 0 for row in told)


def test_test_examples_from_another_file(settings, prompts, tmp_path):
    other = write_prompts(tmp_path / "test.jsonl", PROMPTS[:7])
    config = TruncateModel(
        **{**settings, "interventions": ("1.mlp@0",), "test_tasks": (f"jsonl:{other}",)}
    )
    (one,) = truncate_model.make_plan(config).questions
    assert one.validation.tolist() == list(range(36))
    assert [one.encoded.examples[i].prompt for i in one.test] == [r["prompt"] for r in PROMPTS[:7]]


def test_a_killed_search_reads_what_it_had(settings, tmp_path):
    changes = {"search": "grid", "num_examples": 10, "layers": (1,)}
    _, _, first = go(settings, tmp_path / "run", **changes)
    stored = tmp_path / "run" / "checkpoints" / "colours.jsonl"
    size = stored.stat().st_size
    (tmp_path / "run" / "summary.json").unlink()
    _, _, second = go(settings, tmp_path / "run", **changes)
    assert second == first
    assert stored.stat().st_size == size


BAD = [
    ({}, "either --interventions or --search"),
    ({"interventions": ("9.fc_in@0",)}, "layers 0-1"),
    ({"interventions": ("1.fc_in",)}, "LAYER.MATRIX@RHO"),
    ({"search": "grid", "matrices": ("mlp",)}, "--matrices names 'mlp'"),
    ({"search": "grid", "layers": (2,)}, "--layers names 2"),
    ({"search": "grid", "layers": (1, -1)}, "--layers names layer 1 twice"),
    ({"search": "grid", "rhos": ("2",)}, "outside [0, 1]"),
    ({"search": "grid", "tasks": ("nonsense",)}, "known are"),
    ({"search": "grid", "test_tasks": ("sums", "sums")}, "--test_tasks names 2"),
    ({"search": "grid", "tasks": ("sums", "products"), "save": "x"}, "single task"),
    ({"search": "grid", "factored": True}, "--factored"),
    ({"search": "grid", "model": "/nowhere"}, "not a directory"),
    ({"search": "grid", "tokenizer": "/nowhere"}, "/nowhere"),
    ({"search": "grid", "validation": 0.001}, "validation 0.001"),
    ({"search": "grid", "max_length": 3}, "none of"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_requests_end_before_any_work(settings, changes, message):
    config = TruncateModel(**{**settings, **changes})
    with pytest.raises(UserError) as caught:
        truncate_model.make_plan(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objectives_that_need_distractors(settings, tmp_path):
    bare = [{k: v for k, v in row.items() if k != "distractors"} for row in PROMPTS]
    path = write_prompts(tmp_path / "bare.jsonl", bare)
    changes = {"search": "grid", "objective": "choice", "tasks": (f"jsonl:{path}",)}
    with pytest.raises(UserError, match="needs distractors"):
        truncate_model.make_plan(TruncateModel(**{**settings, **changes}))


def test_from_the_command_line(drive, model, prompts, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a"\n')
    common = [f"--model={model}", f"--out={tmp_path / 'run'}"]
    requests = [
        [*common, f"--tasks=jsonl:{broken}", "--search=grid"],
        [*common, "--tasks=sums", "--search=annealing"],
        ["--tasks=sums", "--search=grid"],
    ]
    first, second, third = drive("truncate_model", *requests)
    assert [r["code"] for r in (first, second, third)] == [2, 2, 2]
    assert first["err"].startswith(f"error: {broken}, line 2: not JSON")
    assert "annealing" in second["err"]
    assert "--model" in third["err"]
    assert all(r["err"].count("\n") == 1 for r in (first, second, third))


def test_a_place_to_save_is_looked_at_before_any_work(settings, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "theirs").write_text("")
    (tmp_path / "file").write_text("")
    changes = {**settings, "search": "grid"}
    for save, message in (
        (full, "exists already"),
        (tmp_path / "file", "exists already"),
        (tmp_path / "file" / "in", "cannot be written"),
    ):
        with pytest.raises(UserError, match=message):
            truncate_model.require_place(TruncateModel(**changes, save=str(save)))
    truncate_model.require_place(TruncateModel(**changes, save=str(tmp_path / "a" / "b")))


def test_figures_are_redrawn_from_arrays_and_tables_alone(settings, tmp_path):
    changes = {"search": "grid", "num_examples": 10, "layers": (1,)}
    _, directory, _ = go(settings, tmp_path / "run", **changes)
    images = sorted((directory.path / "figures").glob("*.png"))
    before = [image.read_bytes() for image in images]
    for image in images:
        image.unlink()
    study.redraw(STUDY, str(directory.path))
    assert [image.read_bytes() for image in images] == before
    assert len(images) >= 3


@pytest.fixture
def brittle(monkeypatch):
    """A matrix of which nothing is left returns NaN."""
    resume_each = surgery.LanguageNetwork.resume_each

    def breaking(self, params, key, outputs, *rest):
        broken = (jnp.where(jnp.all(one == 0), jnp.nan, one) for one in outputs)
        return resume_each(self, params, key, broken, *rest)

    monkeypatch.setattr(surgery.LanguageNetwork, "resume_each", breaking)


@pytest.mark.thorough
@pytest.mark.fault("A1")
def test_cuts_that_leave_the_numbers_are_counted_and_told(settings, tmp_path, brittle, capsys):
    out = tmp_path / "run"
    changes = {"search": "grid", "layers": (1,), "objective": "accuracy", "num_examples": 16}
    _, directory, summary = go(settings, out, **changes)
    assert summary["colours/not_finite"] == 2
    assert not summary["colours/chosen"].endswith("@0")
    rows = {row["intervention"]: row for row in rows_of(directory, "colours_candidates.csv")}
    kept = directory.read_rows("colours_candidates.jsonl")
    for name in ("1.fc_in@0", "1.fc_out@0"):
        assert rows[name]["validation/accuracy"] == rows[name]["validation/loss_change_low"] == ""
        assert next(r for r in kept if r["intervention"] == name)["validation/accuracy"] is None
    assert float(rows["1.fc_in@0.5"]["validation/loss"]) > 0
    printed = capsys.readouterr().out
    assert "note: 2 of the candidates left the finite numbers, 1.fc_in@0 first" in printed
    assert (out / "figures" / "colours_heatmap_accuracy.png").exists()
    study.redraw(STUDY, str(out))


@pytest.mark.thorough
@pytest.mark.fault("A1")
def test_where_all_cuts_leave_the_numbers_the_model_stays(settings, tmp_path, brittle, capsys):
    changes = {"search": "grid", "layers": (1,), "rhos": ("0",), "num_examples": 16}
    _, _, summary = go(settings, tmp_path / "run", **changes, protocol="published", paper="laser")
    assert (summary["colours/chosen"], summary["colours/not_finite"]) == ("full", 2)
    assert "stays within the finite numbers" in capsys.readouterr().out
