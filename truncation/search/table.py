"""Results that survive: a cache that continues a killed search, and tables of rows.

The cache is one JSON-lines file. A line holds the hash of everything its scores depend
on, and the scores themselves as base64 float32, so that confidence intervals can be
recomputed. A line cut short by a kill is ignored and computed again.
"""

import base64
import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HostScores = dict[str, np.ndarray]


def digest(description: Any) -> str:
    """Hash of a JSON-able description; equal for equal content, whatever the key order."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Cache:
    """Scores on disk by hash; `config` names the model, checkpoint and examples they are of."""

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        self.path = Path(path)
        self.config = dict(config)
        self._entries: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return
        for line in self.path.read_text().splitlines():
            try:
                entry = json.loads(line)
                self._entries[entry["hash"]] = entry["scores"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue

    def _hash(self, description: Mapping[str, Any]) -> str:
        return digest({"config": self.config, **description})

    def get(self, description: Mapping[str, Any]) -> HostScores | None:
        """The scores stored for this description under this config, if any."""
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
        entry = {"hash": self._hash(description), **description, "scores": stored}
        self._entries[entry["hash"]] = stored
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A leading newline closes a line that an earlier kill may have left open.
        with self.path.open("a") as file:
            file.write("\n" + json.dumps(entry) + "\n")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text)
    scratch.replace(path)


def write_jsonl(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One flat JSON object per row, atomically."""
    _replace(Path(path), "".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; none where it does not exist, a broken last line dropped."""
    file, rows = Path(path), []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row under the union of their keys in order of appearance, atomically."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".part")
    with scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    scratch.replace(target)


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The rows as a Markdown table of these columns, floats with three decimals."""

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c, "")) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"
