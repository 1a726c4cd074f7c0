import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.run import directory as run_directory
from experiments.run import recall_setup
from experiments.run.program import Place, UserError
from experiments.truncate import experiment as truncate
from experiments.truncate.settings import Truncate
from toy import recall, transformer
from truncation import editing


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
    setup = recall_setup.read_setup(config.run)
    directory = run_directory.open_run(Place("truncate", str(tmp_path / "out")), config)
    truncate.run(config, setup, truncate.check(config, setup), directory)
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
    arrays = directory.read_arrays()
    assert arrays["clean/0.mlp@0/p_correct"].shape == (2, 2)
    for name in ("curves", "along", "parts", "components", "flips"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 5_000
    for name in ("parts", "components", "flips", "factors"):
        assert len((tmp_path / "out" / f"{name}.csv").read_text().splitlines()) > 3
    printed = capsys.readouterr().out
    assert "0.fc_out@-0.07" in printed
    assert "as factors" in printed
    image = tmp_path / "out" / "figures" / "curves.png"
    before = image.read_bytes()
    image.unlink()
    truncate.redraw(str(tmp_path / "out"))
    assert image.read_bytes() == before


def test_contexts_are_counted_like_a_reader_would(recall_run):
    task = recall_setup.read_setup(recall_run).task
    batch = recall.sample(task, jax.random.key(0), batch_size=6)
    counts = truncate.context_counts(task, batch)
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
    changed = dataclasses.replace(config, **change)
    setup = recall_setup.read_setup(config.run)
    with pytest.raises(UserError, match=words):
        truncate.check(changed, setup)


def test_the_notation_reaches_the_weights(recall_run):
    setup, _, state = recall_setup.restore(recall_run)
    weights = jax.tree.map(lambda w: w[0], transformer.combine(state.params, state.frozen))
    matrices = transformer.matrices(setup.model)
    edited = editing.apply(weights, "0.mlp@0", matrices)
    assert not np.any(matrices[0, "fc_in"].read(edited))
