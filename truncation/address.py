"""Where a model keeps a matrix: reading it, and writing a cut one into new parameters."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from truncated_weights.truncation import linear, spectrum
from truncated_weights.truncation.notation import Key

Params = Any
_Place = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a named matrix lives in a model's parameters.

    read(params) -> [d_in, d_out]; write(params, matrix) -> new params, the old untouched.
    Optional: write_factors(params, kernel_in, kernel_out) stores the matrix as two thin
    factors, add_bias(params, bias) adds to its output; None where the model cannot.

    heads: how many equal blocks of rows and of columns belong to heads of attention, (1, 16)
    for 16 heads side by side in q_proj, (16, 1) for out_proj; (1, 1) where there are none.
    path: where the matrix lies, as messages name it.
    """

    read: Callable[[Params], Array]
    write: Callable[[Params, Array], Params]
    write_factors: Callable[[Params, Array, Array], Params] | None = None
    add_bias: Callable[[Params, Array], Params] | None = None
    heads: tuple[int, int] = (1, 1)
    path: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the matrices this one is a product of; none for a stored matrix."""
        return ()

    @property
    def stored(self) -> "tuple[Address, ...]":
        """The addresses of what is stored: this one, or the factors of a product."""
        return (self,)

    def at_stop(self, components: spectrum.Decomposition) -> spectrum.Decomposition:
        """The components of the map from what `stop` gives here to what `resume` takes."""
        return components

    def outputs(self, params: Params, inputs: Array) -> Array:
        """What `resume` takes where nothing is cut, [..., d_out], from what `stop` gives."""
        matrix = self.read(params).astype(inputs.dtype)
        return jnp.matmul(inputs, matrix, precision=jax.lax.Precision.HIGHEST)

    def keep(self, params: Params, components: spectrum.Decomposition, mask: Array) -> Params:
        """New params whose matrix is sum_i mask_i sigma_i u_i v_i^T; mask is [r]."""
        return self.write(params, spectrum.reconstruct(self.read(params), components, mask))

    def perturb(self, params: Params, components: spectrum.Decomposition, delta: Array) -> Params:
        """New params with W + sum_i delta_i sigma_i u_i v_i^T; differentiable in delta [r]."""
        u, s, vt = components
        change = jnp.matmul(u * (s * delta)[None], vt, precision=jax.lax.Precision.HIGHEST)
        matrix = self.read(params)
        return self.write(params, matrix + change.astype(matrix.dtype))

    def keep_factored(
        self, params: Params, components: spectrum.Decomposition, mask: np.ndarray
    ) -> Params:
        """`keep`, the k components kept stored as factors [d_in, k] and [k, d_out].

        mask [r] of ones and zeros, not traced. Raises ValueError without write_factors.
        """
        if self.write_factors is None:
            raise ValueError("write_factors: this model stores the matrix whole, never as factors")
        u, s, vt = components
        kept, dtype = np.flatnonzero(mask), self.read(params).dtype
        root = jnp.sqrt(s[kept])
        return self.write_factors(
            params,
            (u[:, kept] * root[None]).astype(dtype),
            (root[:, None] * vt[kept]).astype(dtype),
        )


@dataclasses.dataclass(frozen=True)
class ProductAddress(Address):
    """Two matrices applied one after the other, A B, cut as one.

    With A B = U S V^T the components K are kept by B <- B V K V^T, because
    A B V K V^T = U S K V^T: exact, shapes unchanged, A left alone.
    """

    first: Address = dataclasses.field(kw_only=True)
    second: Address = dataclasses.field(kw_only=True)
    names: tuple[str, str] = dataclasses.field(kw_only=True)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the two factors."""
        return self.names

    @property
    def stored(self) -> tuple[Address, ...]:
        """The two factors."""
        return (self.first, self.second)

    def keep(self, params: Params, components: spectrum.Decomposition, mask: Array) -> Params:
        """New params whose product is sum_i mask_i sigma_i u_i v_i^T; mask is [r]."""
        factor = self.second.read(params)
        exact = jax.lax.Precision.HIGHEST
        coordinates = jnp.matmul(factor, components.vt.T, precision=exact) * mask[None]
        projected = jnp.matmul(coordinates, components.vt, precision=exact).astype(factor.dtype)
        return self.second.write(params, jnp.where(jnp.all(mask == 1), factor, projected))

    def perturb(self, params: Params, components: spectrum.Decomposition, delta: Array) -> Params:
        """New params whose product is A B + sum_i delta_i sigma_i u_i v_i^T."""
        factor = self.second.read(params)
        exact = jax.lax.Precision.HIGHEST
        coordinates = jnp.matmul(factor, components.vt.T, precision=exact) * delta[None]
        change = jnp.matmul(coordinates, components.vt, precision=exact)
        return self.second.write(params, factor + change.astype(factor.dtype))

    def keep_factored(
        self, params: Params, components: spectrum.Decomposition, mask: np.ndarray
    ) -> Params:
        """New params in which the second matrix is stored as the factors B V_K, V_K^T."""
        if self.second.write_factors is None:
            raise ValueError("write_factors: this model stores the matrix whole, never as factors")
        factor, vt = self.second.read(params), components.vt[np.flatnonzero(mask)]
        projected = jnp.matmul(factor, vt.T, precision=jax.lax.Precision.HIGHEST)
        return self.second.write_factors(
            params, projected.astype(factor.dtype), vt.astype(factor.dtype)
        )


class SummedProductAddress(ProductAddress):
    """sum_h A_h B_h over heads, each with a mixture of positions of its own between A_h and B_h.

    No single input feeds such a product, so a network stops behind it instead of in front: its
    own output o, before any bias, is what `stop` gives, and keeping the components K turns it
    into o V K V^T. So the components at the stop read and write along v_i, each with weight one.
    """

    def at_stop(self, components: spectrum.Decomposition) -> spectrum.Decomposition:
        """sum_i v_i v_i^T: the projection on the directions that stay."""
        return spectrum.Decomposition(components.vt.T, jnp.ones_like(components.s), components.vt)

    def outputs(self, params: Params, inputs: Array) -> Array:
        """The product has been applied already."""
        return inputs


Matrices = Mapping[Key, Address]


def at_path(*path: str | int, heads: tuple[int, int] = (1, 1)) -> Address:
    """The matrix stored at a path of nested dicts and lists, e.g. ("layers", 1, "fc_in").

    What lies there is a leaf of `linear`: an array, or a dict with "kernel", or factors. A
    last step "kernel" may be given or left out. heads as in Address.
    """
    place = path[:-1] if path[-1] == "kernel" else path
    return Address(
        lambda params: linear.dense(_leaf(params, place)),
        functools.partial(_change, place, linear.with_matrix),
        functools.partial(_change, place, linear.with_factors),
        functools.partial(_change, place, linear.with_added_bias),
        heads,
        "/".join(map(str, place)),
    )


def _leaf(params: Params, place: _Place) -> linear.Leaf:
    for step in place:
        params = params[step]
    return params


def _change(
    place: _Place, change: Callable[..., linear.Leaf], params: Params, *arrays: Array
) -> Params:
    """New params whose leaf at a place is what `change` makes of the old one and the arrays."""
    return _replace(params, place, change(_leaf(params, place), *arrays))


def _replace(node: Any, place: _Place, new: linear.Leaf) -> Any:
    if not place:
        return new
    step, rest = place[0], place[1:]
    if isinstance(node, Mapping):
        return {**node, step: _replace(node[step], rest, new)}
    return [_replace(n, rest, new) if i == step else n for i, n in enumerate(node)]


def block(whole: Address, rows: slice, columns: slice) -> Address:
    """A block of a stored matrix as a matrix of its own: the rest stays what it is."""
    return Address(
        lambda params: whole.read(params)[rows, columns],
        functools.partial(_write_block, whole, rows, columns),
        path=whole.path,
    )


def _write_block(
    whole: Address, rows: slice, columns: slice, params: Params, matrix: Array
) -> Params:
    found = whole.read(params)
    return whole.write(params, found.at[rows, columns].set(matrix.astype(found.dtype)))


def product(
    first: Address, second: Address, names: tuple[str, str], *, summed: bool = False
) -> ProductAddress:
    """The matrix first @ second of [a, b] and [b, c], cut as one; names are the factors' own.

    summed: b runs over heads that mix positions differently (SummedProductAddress).
    """
    kind = SummedProductAddress if summed else ProductAddress
    return kind(
        functools.partial(_multiply, first, second),
        functools.partial(_refuse, names),
        add_bias=second.add_bias,
        first=first,
        second=second,
        names=names,
    )


def _multiply(first: Address, second: Address, params: Params) -> Array:
    return jnp.matmul(first.read(params), second.read(params), precision=jax.lax.Precision.HIGHEST)


def _refuse(names: tuple[str, str], params: Params, matrix: Array) -> Params:
    raise ValueError(f"the product of {names[0]} and {names[1]} can be cut but not overwritten")
