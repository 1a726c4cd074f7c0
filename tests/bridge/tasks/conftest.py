import pathlib

import pytest

from tests.bridge.words import Words

# Public samples beside the project, where there are any: tests that need them skip without.
SAMPLES = pathlib.Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes to a file of a fresh folder and returns its path."""

    def write(content, name="file.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def encode():
    return Words()


@pytest.fixture(scope="session")
def samples():
    if not SAMPLES.is_dir():
        pytest.skip(f"no public samples in {SAMPLES}")
    return SAMPLES


@pytest.fixture(scope="session")
def neox(samples):
    """The tokenizer of GPT-NeoX, with which the counts of the notes were made."""
    from truncated_weights.bridge import tokenizer

    return tokenizer.read(samples / "pythia_tokenizer")
