"""Where results come from: digests of what was read, versions, device, the commit of the code."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from truncated_weights.truncation.files import regular

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def of_tree(tree: Any) -> str:
    """Digest of a pytree of arrays: paths, dtypes, shapes and all bits."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        values = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}\n".encode())
        found.update(values.tobytes())
    return found.hexdigest()[:32]


def of_files(path: str | Path, names: Iterable[str] | None = None) -> str:
    """Digest of a file, or of the files of a directory: their names and all bytes.

    names: only these, where they exist; all that are not hidden by default. Links are followed.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    else:
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
        if names is not None:
            wanted = set(names)
            files = [file for file in files if file.name in wanted]
    found = hashlib.sha256()
    for file in files:
        with regular.opened(file) as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        found.update(f"{file.relative_to(path) if file != path else ''} {content}\n".encode())
    return found.hexdigest()[:32]


def of_text(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def environment() -> dict[str, Any]:
    """Versions, device and commit, as config.json holds them."""
    device = jax.devices()[0]
    return {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": f"{device.device_kind} x {jax.local_device_count()} ({device.platform})",
        "git_commit": git_commit(),
    }


def git_commit(root: Path = ROOT) -> str:
    """The commit of this code with -dirty after it, or "unknown" where it is no checkout.

    An installed copy may lie inside somebody else's repository, whose commit says nothing
    about this code: the repository has to begin where the packages do.
    """
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        return _git(root, *describe) if Path(top).samefile(root) else "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=root, capture_output=True, check=True)
    # A path, which may hold letters that the locale does not know.
    return os.fsdecode(done.stdout).strip()
