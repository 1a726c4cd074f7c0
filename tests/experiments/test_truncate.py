import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.experiments.drawn import TRAP, require_drawn
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.inputs import recall_setup
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.truncate import claims, figures, inside
from truncated_weights.experiments.truncate import measure as truncate
from truncated_weights.experiments.truncate.settings import Truncate
from truncated_weights.toy import recall, transformer
from truncated_weights.training.records import Records, labelled, name, of_rows, rows_of
from truncated_weights.truncation import editing


@pytest.fixture
def config(recall_run):
    return Truncate(
        run=str(recall_run),
        steps=(30, 120),
        interventions=("0.mlp@0", "0.fc_out@-0.07", "0.fc_in@1"),
        curves=("0.fc_in",),
        rhos=("0", "0.1", "0.5", "1"),
        num_sequences=16,
    )


def test_cuts_are_measured_looked_into_and_drawn(config, tmp_path, capsys):
    assert not study.run(truncate.STUDY, config, Place("truncate", str(tmp_path / "out")))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # Untouched, and cut and measured by hand.
    np.testing.assert_allclose(
        summary["clean/0.fc_in@1/p_correct"], summary["clean/full/p_correct"], rtol=1e-5
    )
    np.testing.assert_allclose(
        summary["clean/0.fc_in@-1/loss"], summary["clean/0.fc_in@0/loss"], rtol=1e-6
    )
    np.testing.assert_allclose(
        summary["noisy/0.fc_in@0/loss"], summary["noisy/0.mlp@0/loss"], rtol=1e-5
    )
    assert summary["clean/0.mlp@0/p_noise"] < summary["clean/full/p_noise"]
    assert "clean/full/p_noise/sem" in summary
    records = RunDirectory(tmp_path / "out").read_records()
    cut = records.models.p_correct.sel(set="clean", model="0.mlp@0")
    assert cut.sizes == {"step": 2, "seed": 2}
    assert summary["clean/0.mlp@0/p_correct"] == pytest.approx(float(cut.sel(step=120).mean()))
    assert (summary["seeds"], summary["seeds_lost"]) == (2, 0)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [30, 120]
    assert json.loads(lines[-1]) == summary | {"step": 120}
    # Tables hold what their files hold.
    for table in inside.DETAILS:
        written = of_rows(RunDirectory(tmp_path / "out").read_rows(f"{table}.jsonl"))
        assert rows_of(records[table]) == rows_of(written)
    for drawn in ("curves", "along", "parts", "components", "flips"):
        assert (tmp_path / "out" / "figures" / f"{drawn}.png").stat().st_size > 5_000
    for written in ("parts", "components", "flips", "factors"):
        assert len((tmp_path / "out" / f"{written}.csv").read_text().splitlines()) > 3
    printed = capsys.readouterr().out
    assert "0.fc_out@-0.07" in printed
    assert "as factors" in printed
    image = tmp_path / "out" / "figures" / "curves.png"
    before = image.read_bytes()
    image.unlink()
    study.redraw(truncate.STUDY, str(tmp_path / "out"))
    assert image.read_bytes() == before


def test_contexts_are_counted_like_a_reader_would(recall_run):
    task = recall_setup.read_setup(recall_run).task
    batch = recall.sample(task, jax.random.key(0), batch_size=6)
    counts = inside.context_counts(task, batch)
    tokens, positions = np.asarray(batch.tokens), np.asarray(batch.positions)
    for row in range(6):
        for slot in np.flatnonzero(np.asarray(batch.weights)[row]):
            at = positions[row, slot]
            noise = correct = 0
            for t in range(1, at + 1):
                if tokens[row, t - 1] == tokens[row, at]:
                    noise += int(tokens[row, t] in task.noise)
                    correct += int(tokens[row, t] == batch.correct[row, slot])
            assert counts["noise_in_context"][row, slot] == noise
            assert counts["correct_in_context"][row, slot] == correct
    assert counts["noise_in_context"].max() > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": (31,)}, "steps.*31.*30 120"),
        ({"interventions": ("0.fc_mid@1",)}, "unknown matrix"),
        ({"interventions": ("3.fc_in@0",)}, "layers 0-0"),
        ({"curves": ("fc_in",)}, "LAYER.MATRIX@RHO"),
    ],
)
def test_bad_requests_are_told(config, change, words):
    with pytest.raises(UserError, match=words):
        truncate.prepare(dataclasses.replace(config, **change))


def made(values, *, gone=()):
    """Records of these models, (variable, model) -> [step, seed], and of no table.

    gone: seeds that are lost at the last step; what they recorded before is a trap.
    """
    models = labelled(
        {name(variable, set="clean", model=model): v for (variable, model), v in values.items()},
        {"step": [1, 64, 200, 500], "seed": range(4)},
    )
    models.attrs["alpha"] = 0.5
    models = models.where(~models.seed.isin(gone), TRAP)
    first = np.full((4, 4), -1)
    first[-1, list(gone)] = 300
    lost = labelled({name("first_bad"): first}, {"step": models.step, "seed": models.seed})
    return Records(
        {"models": models, "train": lost, **{table: labelled({}, {}) for table in inside.DETAILS}}
    )


@pytest.mark.fault("B3")
@pytest.mark.parametrize("gone", [(0, 2), (0, 1, 3)], ids=["some", "all but one"])
def test_lost_seeds_count_nowhere(gone):
    drawn = np.random.default_rng(0)
    cuts = [f"1.fc_in@{sign}{rho}" for sign in ("", "-") for rho in ("0.1", "0.5", "1")]
    values = {
        (variable, model): drawn.uniform(0.1, 0.9, (4, 4))
        for model in ("full", *cuts)
        for variable in ("p_correct", "p_noise")
    }
    records = made(values, gone=gone)
    assert require_drawn(figures.figures(Truncate(), records.surviving())) == ["curves", "along"]
    found = truncate.means(records, 500)
    kept = [seed for seed in range(4) if seed not in gone]
    expected = values["p_noise", "full"][-1, kept]
    assert found["clean/full/p_noise"] == pytest.approx(expected.mean())
    assert ("clean/full/p_noise/sem" in found) == (len(kept) > 1)


def test_claims_read_the_run_by_its_axes():
    """What moves both models of a seed alike is no error of the gain."""
    seeds = np.array([0.0, 0.1, 0.2, 0.3])
    gain = np.array([0.0, 0.0, 0.1, 0.4])[:, None]
    full = np.tile(seeds, (4, 1))
    values = {("p_correct", "full"): full, ("p_correct", "1.mlp@0"): full + gain}
    noise = {"full": 0.5, "1.mlp@0": 0.01, "1.fc_out@0.02": 0.9, "1.fc_out@-0.01": 0.01}
    values |= {("p_noise", model): np.full((4, 4), value) for model, value in noise.items()}
    run = SimpleNamespace(summary={}, records=made(values))
    judged = [check.judge(run) for claim in claims.SUBJECT.claims for check in claim.checks]
    assert all(one.holds for one in judged)
    assert judged[1].measured == pytest.approx(0.1)
    assert judged[1].error == pytest.approx(0.0, abs=1e-9)


def test_the_notation_reaches_the_weights(recall_run):
    setup, _, state = recall_setup.restore(recall_run)
    weights = jax.tree.map(lambda w: w[0], transformer.combine(state.params, state.frozen))
    matrices = transformer.matrices(setup.model)
    edited = editing.apply(weights, "0.mlp@0", matrices)
    assert not np.any(matrices[0, "fc_in"].read(edited))


def test_cuts_by_what_they_do_to_data_are_measured_like_others(config, tmp_path):
    """kfac:1 keeps every entry and is the full model; the others are the cuts of their seeds."""
    cuts = ("0.fc_in@0.5", "0.fc_in@whitened:0.5", "0.fc_in@kfac:1")
    few = dataclasses.replace(config, steps=(120,), interventions=cuts, curves=())
    assert not study.run(truncate.STUDY, few, Place("truncate", str(tmp_path / "out")))
    found = RunDirectory(tmp_path / "out").read_records().models.p_correct.sel(set="clean")
    assert found.sel(model="0.fc_in@kfac:1").values == pytest.approx(found.sel(model="full").values)
    plain, measured = (found.sel(model=cut).values for cut in cuts[:2])
    assert np.isfinite(measured).all()
    assert not np.allclose(plain, measured, rtol=1e-4)
