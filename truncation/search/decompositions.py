"""The matrices of one set of parameters in components: each SVD once, and what is made of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from truncated_weights.truncation import editing, kept, spectrum
from truncated_weights.truncation.address import Matrices, Params
from truncated_weights.truncation.editing import by_components, require_finite, resolve
from truncated_weights.truncation.kept import Mask
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import Cut, Intervention, Key, kept_band
from truncated_weights.truncation.spectrum import Decomposition

_EDITED_KEPT = 4

# One compilation per shape, whichever matrix has it.
_decompose = jax.jit(spectrum.decompose)


class Decompositions:
    """Exact SVDs, computed the first time they are asked for."""

    def __init__(
        self,
        matrices: Matrices,
        params: Params,
        moments: Mapping[Key, Moments] | None = None,
    ):
        """Nothing is computed yet. moments: for cuts in a metric of the data."""
        self.matrices = matrices
        self.params = params
        self.moments = moments
        self._known: dict[Key, Decomposition] = {}
        self._measured: dict[tuple[Key, str], Decomposition] = {}
        self._edited: dict[str, Params] = {}

    def __getitem__(self, key: Key) -> Decomposition:
        """The components of one matrix; ValueError where it holds NaN or infinity."""
        if key not in self._known:
            require_finite(self.params, self.matrices, [key])
            self._known[key] = _decompose(self.matrices[key].read(self.params))
        return self._known[key]

    def share(self, other: "Decompositions") -> None:
        """Take the plain components that another one of the same parameters has or finds."""
        self._known = other._known

    def components(self, cut: Cut) -> Decomposition:
        """What a cut by components of one matrix counts, in its metric."""
        key = int(cut.layer), cut.matrix
        if not cut.metric:
            return self[key]
        if (key, cut.metric) not in self._measured:
            require_finite(self.params, self.matrices, [key])
            found = editing.decompose(self.params, self.matrices, cut, self.moments)
            self._measured[key, cut.metric] = found
        return self._measured[key, cut.metric]

    def of(self, keys: Iterable[Key]) -> dict[Key, Decomposition]:
        """The components of several matrices."""
        return {key: self[key] for key in keys}

    def at(self, params: Params) -> "Decompositions":
        """The same components for parameters that hold the same matrices."""
        other = Decompositions(self.matrices, params, self.moments)
        other._known, other._measured = self._known, self._measured
        return other

    def mask(self, cut: Cut) -> Float[np.ndarray, " r"]:
        """The components kept by this cut of one matrix, on the host; ValueError by magnitude."""
        if not cut.by_components:
            raise ValueError(f"intervention {cut} removes entries, not components")
        u, s, vt = self.components(cut)
        if cut.kind == "auto":
            return np.asarray(kept.components(cut, s, (u.shape[0], vt.shape[1])))
        # Made on the host: a dispatch per candidate would cost as much as some suffixes.
        return kept.ranks(cut, len(s)).astype(s.dtype)

    def resolve(self, intervention: Intervention) -> dict[Key, Cut]:
        """The matrices an intervention touches; see editing.resolve."""
        return resolve(intervention, self.matrices)

    def masks(self, intervention: Intervention) -> dict[Key, np.ndarray]:
        """The components kept of every matrix that is cut by components."""
        cuts = self.resolve(intervention)
        return {key: self.mask(cuts[key]) for key in by_components(cuts)}

    def edited(self, intervention: Intervention) -> Params:
        """New parameters after an intervention.

        The last few are kept: asked for again they are the same objects, so that streams of
        layers computed from them (search.streams) are found again.
        """
        name = str(intervention)
        if name not in self._edited:
            while len(self._edited) >= _EDITED_KEPT:
                del self._edited[next(iter(self._edited))]
            self._edited[name] = self.made(intervention)
        return self._edited[name]

    def made(self, intervention: Intervention, *, removed: bool = False) -> Params:
        """New parameters after an intervention, made anew; removed: what it takes away alone."""
        cuts = self.resolve(intervention)
        params = editing.keep_curved(self.params, self.matrices, cuts, self.moments)
        if removed:
            for key, cut in cuts.items():
                if cut.kind == "kfac":
                    address = self.matrices[key]
                    rest = address.read(self.params) - address.read(params)
                    params = address.write(params, rest)
        components = {key: self.components(cuts[key]) for key in by_components(cuts)}
        masks = {key: jnp.asarray(mask) for key, mask in self.kept(intervention).items()}
        if removed:
            masks = {key: 1 - mask for key, mask in masks.items()}
        return editing.edit(params, self.matrices, components, masks)

    def kept(self, intervention: Intervention) -> dict[Key, Mask]:
        """What stays of every matrix that is cut, by magnitude too, but by kfac's entries."""
        masks: dict[Key, Mask] = {}
        for key, cut in self.resolve(intervention).items():
            if cut.kind == "kfac":
                continue
            if cut.kind == "magnitude":
                require_finite(self.params, self.matrices, [key])
                masks[key] = kept.mask(cut, self.matrices[key].read(self.params), None)
            else:
                masks[key] = jnp.asarray(self.mask(cut))
        return masks

    def keep(self, masks: Mapping[Key, Any]) -> Params:
        """New parameters in which every one of these matrices keeps what its mask keeps."""
        components = self.of(key for key, mask in masks.items() if mask.ndim == 1)
        return editing.edit(
            self.params, self.matrices, components, {k: jnp.asarray(m) for k, m in masks.items()}
        )

    def count(self, intervention: Intervention) -> tuple[int, int]:
        """How many components stay, and of how many; entries where a cut is by magnitude."""
        number = total = 0
        for key, cut in self.resolve(intervention).items():
            if not cut.by_components:
                size = self.matrices[key].read(self.params).size
                start, stop = kept_band(cut, size)
                number, total = number + stop - start, total + size
            else:
                mask = self.mask(cut)
                number, total = number + int(mask.sum()), total + len(mask)
        return number, total
