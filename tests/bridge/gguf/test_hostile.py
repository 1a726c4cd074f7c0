"""Headers that claim more than there is: refused in one line, before anything is made of it."""

import struct

import pytest

from truncated_weights import bridge
from truncated_weights.bridge.errors import CheckpointError

HUGE = 2**60


def text(value):
    return struct.pack("<Q", len(value)) + value


def head(tensors=0, keys=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def tensor(sizes=(4, 4), kind=0, offset=0, name=b"t"):
    axes = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + axes + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"GGUF", "not a GGUF file"),
        (b"GGML" + bytes(60), "not a GGUF file"),
        (head(version=1), "version 1 is not supported"),
        (head(version=3 << 24), "big-endian"),
        (head(tensors=HUGE), "tensors are more than"),
        (head(keys=HUGE), "keys are more than"),
        (head(keys=1) + struct.pack("<Q", HUGE), "bytes of a text are more than"),
        (head(keys=1) + struct.pack("<Q", 2**20), "are left of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<I", 99), "unknown type 99"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 4, HUGE), "items of an array"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 2**20), "are left of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**20), "claims 1048576 texts"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1), "array of arrays"),
        (head(keys=1) + text(b"\xff"), "no UTF-8"),
        (head(keys=2) + 2 * (text(b"k") + struct.pack("<IB", 7, 1)), "'k' is there twice"),
        (head(tensors=1) + tensor(sizes=()), "0 axes"),
        (head(tensors=1) + tensor(sizes=(2**39, 2**39)), "claims the shape"),
        (head(tensors=1) + tensor(kind=77), "type 77, which is not read; known are F32"),
        (head(tensors=1) + tensor(kind=3), "no whole blocks"),
        (head(tensors=1) + tensor(offset=HUGE), "do not lie in"),
        (head(tensors=1) + tensor(offset=1) + bytes(200), "do not lie in"),
        (head(tensors=2) + 2 * tensor() + bytes(200), "'t' is there twice"),
        (head(tensors=2) + tensor() + tensor(name=b"u") + bytes(200), "overlap"),
        (
            head(keys=1)
            + text(b"general.alignment")
            + struct.pack("<II", 4, 33),
            "expected a power of two",
        ),
    ],
)  # fmt: skip
def test_it_is_refused(content, said, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as told:
        bridge.load(path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_of_several_files_one_has_to_be_named(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(head())
    with pytest.raises(CheckpointError, match=r"several GGUF files \(a.gguf, b.gguf\)"):
        bridge.load(tmp_path)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"none.gguf: cannot be read \(No such file"):
        bridge.load(tmp_path / "none.gguf")
