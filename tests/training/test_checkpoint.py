"""A stored state comes back to the bit, or not at all."""

import gc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.training.checkpoint import CheckpointError, Store


@pytest.fixture
def state():
    return {
        "weights": jax.random.normal(jax.random.key(0), (64, 64)),
        "half": jnp.arange(6, dtype=jnp.bfloat16),
        "step": jnp.int32(7),
    }


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


# orbax leaves a coroutine behind where it fails half way.
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damage_anywhere_is_noticed_or_harmless(state, tmp_path):
    store = Store(tmp_path / "run")
    store.save(7, state)
    store.wait()
    found = store.restore(abstract(state))
    chex.assert_trees_all_equal(found, state)
    refused = 0
    chance = np.random.default_rng(0)
    largest = sorted(
        (path for path in (tmp_path / "run" / "7").rglob("*") if path.is_file()),
        key=lambda path: -path.stat().st_size,
    )
    for path in largest[:4]:
        whole = path.read_bytes()
        places = chance.integers(0, len(whole), 3).tolist()
        flipped = [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in places]
        for damaged in (*flipped, whole[: len(whole) // 2], b"", None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            try:
                chex.assert_trees_all_equal(store.restore(abstract(state)), state)
            except CheckpointError:
                refused += 1
        path.write_bytes(whole)
    gc.collect()
    # Among them at least those in the weights themselves, by far the largest file.
    assert refused >= 3


def test_a_step_that_is_not_there(state, tmp_path):
    store = Store(tmp_path / "run")
    assert store.restore(abstract(state)) is None
    store.save(7, state)
    store.wait()
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 8; there are \(7,\)"):
        store.restore(abstract(state), 8)


@pytest.mark.fault("B2")
def test_no_checkpoint_is_written_or_removed_through_a_link(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("precious")
    for link in (tmp_path / "linked", tmp_path / "run" / "5"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(theirs)
        store = Store(link if link.name == "linked" else link.parent, keep=1)
        with pytest.raises(CheckpointError, match="is a link"):
            store.save(7, {"x": np.zeros(1)})
        with pytest.raises(CheckpointError, match="is a link"):
            store.delete(5)
    assert (theirs / "thesis.txt").read_text() == "precious"
    assert len(list(theirs.iterdir())) == 1


@pytest.mark.fault("B4")
def test_a_run_that_was_removed_is_not_begun_again_by_its_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "run" / "checkpoints")
    assert not (tmp_path / "run").exists()
