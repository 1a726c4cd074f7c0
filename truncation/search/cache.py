"""Scores on disk, so that a killed search continues.

Scores are a pure function s(weights, examples, network, given, cuts, settings). With # a hash,

    #(all arguments) = #(those of a line)   =>   s is what the line holds,

up to collisions of 128 bits: arrays enter by every byte, and a search that is run again computes
only the scores of lines that are missing.

One JSON-lines file. A line holds the hash of everything its scores depend on (weights and
examples included, by their content) and the scores themselves as base64 float32, so that
confidence intervals can be recomputed. A line cut short by a kill, or damaged since, is ignored:
every line carries a checksum.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from truncated_weights.truncation.files import regular, strict
from truncated_weights.truncation.search.examples import HostScores


def digest(description: Any) -> str:
    """Hash of a JSON-able description; equal for equal content, whatever the key order."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of_arrays(tree: Any) -> str:
    """Hash of a pytree of arrays: paths, shapes, dtypes and every byte. One leaf at a time."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.ascontiguousarray(jax.device_get(leaf))
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype};".encode())
        # As bytes, because some dtypes (bfloat16) have no buffer of their own.
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()[:32]


class Cache:
    """Scores by hash; `settings` is anything JSON-able that else tells these scores apart."""

    def __init__(self, path: str | Path, settings: Mapping[str, Any]):
        """Reads what the file holds, if it exists; OSError where it is no regular file."""
        self.path = Path(path)
        self.settings = dict(settings)
        self._entries: dict[str, dict[str, Any]] = {}
        if not regular.exists(self.path):
            return
        for line in regular.content(self.path).splitlines():
            try:
                entry = strict.parse(line)
                if digest([entry["hash"], entry["scores"]]) == entry["check"]:
                    self._entries[entry["hash"]] = entry["scores"]
            except (ValueError, KeyError, TypeError):
                continue

    def _hash(self, description: Mapping[str, Any]) -> str:
        return digest({"settings": self.settings, **description})

    def get(self, description: Mapping[str, Any]) -> HostScores | None:
        """The scores stored for this description under these settings, if any."""
        stored = self._entries.get(self._hash(description))
        if stored is None:
            return None
        return {
            name: np.frombuffer(base64.b64decode(entry["data"]), "<f4").reshape(entry["shape"])
            for name, entry in stored.items()
        }

    def put(self, description: Mapping[str, Any], scores: HostScores) -> None:
        """Append one line; it is on disk when this returns."""
        stored = {
            name: {
                "shape": list(values.shape),
                "data": base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode(),
            }
            for name, values in scores.items()
        }
        key = self._hash(description)
        check = digest([key, stored])
        entry = {"hash": key, **description, "scores": stored, "check": check}
        self._entries[key] = stored
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A leading newline closes a line that an earlier kill may have left open.
        with open(self.path, "a", encoding="utf-8", opener=_no_link) as file:
            file.write("\n" + json.dumps(entry) + "\n")


def _no_link(path: str, flags: int) -> int:
    # What is appended lands in this file, or nowhere: OSError where it is a link, or a pipe, which
    # without O_NONBLOCK would be waited for.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
