"""Whether all processes of a run do the same: settings, code, packages and devices compared.

Each would go on with what it has, and the table of process 0 would say of all what is true of it
alone.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from truncated_weights.experiments.run import provenance
from truncated_weights.experiments.run.directory.strict import plain
from truncated_weights.truncation.files import regular

# What is compared first: of fixed size, whatever a process runs.
PARTS = ("the code", "the versions of packages", "the devices", "the settings")
FOLDERS = ("bridge", "experiments", "mini_pythia", "theory", "toy", "training", "truncation")


def require_alike(program: str, config: Any) -> None:
    """ValueError, the same in every process, where one does not do what process 0 does."""
    told = told_of(program, config)
    if wrong := different(_gathered([told[part] for part in PARTS]), PARTS):
        # Names of settings are those of process 0 only where the code is.
        if list(wrong.values()) == [["the settings"]] * len(wrong):
            fields = told["the settings"]
            wrong = different(_gathered(list(fields.values())), [f"--{name}" for name in fields])
        raise ValueError(refusal(wrong))


def told_of(program: str, config: Any) -> dict[str, Any]:
    """What a process does, by part, as plain values."""
    where = provenance.environment()
    settings = plain(dataclasses.asdict(config)) if config is not None else {}
    return {
        "the code": {name: _of_sources(provenance.ROOT / name) for name in FOLDERS},
        "the versions of packages": [where["versions"], where["python"]],
        "the devices": where["device"],
        "the settings": {"program": program, **settings},
    }


def different(digests: np.ndarray, names: Any) -> dict[int, list[str]]:
    """Process -> what of it is not as in process 0; digests [processes, parts, bytes]."""
    wrong = np.any(digests != digests[:1], axis=2)
    return {
        process: [name for name, here in zip(names, row, strict=True) if here]
        for process, row in enumerate(wrong)
        if row.any()
    }


def refusal(wrong: dict[int, list[str]]) -> str:
    """The line for processes that differ."""
    first, parts = next(iter(wrong.items()))
    others = f" (and {len(wrong) - 1} more processes)" if len(wrong) > 1 else ""
    return (
        f"process {first}{others} differs from process 0 in {', '.join(parts)}; give all of them "
        "the same"
    )


def digest(value: Any) -> np.ndarray:
    """Digest of a plain value [16], uint8."""
    text = json.dumps(value, sort_keys=True)
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.uint8)


def _of_sources(folder: Path) -> str:
    """Digest of a package's modules: not of what Python or an editor leaves beside them."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content = hashlib.sha256(regular.content(file)).hexdigest()
        found.update(f"{file.relative_to(folder)} {content}\n".encode())
    return found.hexdigest()


def _gathered(values: list[Any]) -> np.ndarray:
    own = np.stack([digest(value) for value in values])
    return np.asarray(multihost_utils.process_allgather(own))
