import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import degenerate, notation, spectrum
from truncated_weights.truncation.address import at_path

VALUES = np.array([5.0, 3.0, 3.0, 3.0, 1.0, 0.0, 0.0])


def with_spectrum(values, seed=0):
    rng = np.random.default_rng(seed)
    size = len(values)
    u, v = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    return jnp.asarray((u * values) @ v.T, jnp.float32)


def test_groups_survive_the_rounding_of_an_svd():
    values = np.asarray(spectrum.singular_values(with_spectrum(VALUES)))
    assert degenerate.groups(values) == [(0, 1), (1, 4), (4, 5), (5, 7)]


@pytest.mark.parametrize(
    ("kept", "nearest", "inside", "outside"),
    [(0, 0, 0, 0), (1, 1, 1, 1), (2, 1, 1, 4), (3, 4, 1, 4), (4, 4, 4, 4), (6, 5, 5, 7)],
)
def test_snapping(kept, nearest, inside, outside):
    for side, expected in (("nearest", nearest), ("inside", inside), ("outside", outside)):
        assert degenerate.snap(VALUES, kept, side=side) == expected
    with pytest.raises(ValueError, match="side 'left'"):
        degenerate.snap(VALUES, 2, side="left")
    with pytest.raises(ValueError, match="kept 8"):
        degenerate.snap(VALUES, 8)


def test_rotations_keep_the_matrix_and_average_to_the_isotropic_part():
    matrix = with_spectrum(VALUES)
    parts = spectrum.decompose(matrix)
    keep = jnp.asarray([1.0, 1, 1, 0, 0, 0, 0])
    draws = []
    for seed in range(300):
        rotated = degenerate.rotate(parts, jax.random.key(seed))
        if seed < 3:
            whole = spectrum.reconstruct(jnp.zeros_like(matrix), rotated, 0.999999 + 0 * keep)
            np.testing.assert_allclose(whole, matrix, atol=2e-5)
        draws.append(np.asarray(spectrum.reconstruct(matrix, rotated, keep)))
    # Keeping two of three equal directions keeps, on average, two thirds of each.
    expected = spectrum.reconstruct(matrix, parts, jnp.asarray([1, 2 / 3, 2 / 3, 2 / 3, 0, 0, 0]))
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(300)
    assert np.max(np.abs(mean - expected) / (error + 1e-6)) < 4.5
    assert error.max() > 0.01


def test_a_cut_at_an_edge_does_not_depend_on_the_basis():
    matrix = with_spectrum(VALUES)
    parts = spectrum.decompose(matrix)
    rotated = degenerate.rotate(parts, jax.random.key(7))
    for kept in range(8):
        mask = jnp.asarray(np.arange(7) < kept, jnp.float32)
        same = np.allclose(
            spectrum.reconstruct(matrix, parts, mask),
            spectrum.reconstruct(matrix, rotated, mask),
            atol=1e-4,
        )
        # Inside the null space every choice is the same; inside the triple it is not.
        assert same == (kept not in (2, 3))


def test_ambiguous_cuts_are_told_and_edges_are_not():
    params, matrices = {"w": with_spectrum(VALUES)}, {(0, "fc_in"): at_path("w")}
    (line,) = degenerate.ambiguities(params, notation.parse("0.fc_in@0.3"), matrices)
    assert "cuts at 2 through singular values 1 to 3" in line
    for text in ("0.fc_in@0.15", "0.fc_in@-0.58", "0.fc_in@0.9", "0.fc_in@auto", "0.fc_in@1"):
        assert degenerate.ambiguities(params, notation.parse(text), matrices) == []
