"""PyTorch's .bin files, both forms, without torch.

Zip (since 1.6): ROOT/data.pkl, and ROOT/data/KEY with the bytes of each storage, stored
uncompressed and so mapped in place. Legacy: pickles of a magic number, a protocol number,
system information, the object and the list of storage keys, then for each key its length
as int64 and its bytes; nothing in it is checksummed.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import pickle_reader, zip_file
from truncated_weights.bridge.formats.stored import MappedFile, StoredTensor, mapped_tensor
from truncated_weights.truncation.files import regular

LARGEST_PICKLE = 4 * 2**20  # that of the largest Pythia is a tenth of one MiB
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_MAGIC_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
_DTYPES = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_ZIP_RECORDS = ("version", "byteorder", ".format_version", ".storage_alignment")


class _Storages:
    """Every storage a pickle names, each key always with one type and one length."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self.named: dict[str, pickle_reader.Storage] = {}

    def resolve(self, identifier: Any) -> pickle_reader.Storage:
        storage = pickle_reader.storage_of(identifier, self.lengths)
        if self.named.setdefault(storage.key, storage) != storage:
            raise CheckpointError(f"storage {storage.key[:80]!r} is named with two types or sizes")
        return storage


def _strides(tensor: pickle_reader.Tensor) -> tuple[int, ...]:
    """Strides of a view that lies inside its storage, no two elements in one place.

    A dimension of size one may claim any stride; its stride here is zero.
    """
    if tensor.offset > tensor.storage.count:
        raise CheckpointError(f"offset {tensor.offset} of a storage of {tensor.storage.count}")
    if 0 in tensor.shape:
        return (0,) * len(tensor.shape)
    strides = tuple(
        stride if size > 1 else 0 for stride, size in zip(tensor.strides, tensor.shape, strict=True)
    )
    reach, filled = tensor.offset, 1
    for stride, size in sorted(zip(strides, tensor.shape, strict=True)):
        if size > 1 and stride < filled:
            raise CheckpointError(f"strides {tensor.strides} of shape {tensor.shape} overlap")
        reach += stride * (size - 1)
        filled = max(filled, stride * size)
    if reach >= tensor.storage.count:
        raise CheckpointError(
            f"shape {tensor.shape}, strides {tensor.strides}, offset {tensor.offset} reach "
            f"beyond a storage of {tensor.storage.count}"
        )
    return strides


def _tensors(
    value: Any,
    file: MappedFile,
    starts: Mapping[str, int],
    verifiers: Mapping[str, Callable[[], None]],
) -> dict[str, StoredTensor]:
    """The tensors of an unpickled state dict, given where each storage's bytes start."""
    if type(value) is not dict:
        raise CheckpointError(f"holds a {type(value).__name__}, expected a dict of tensors")
    tensors = {}
    for name, tensor in value.items():
        if type(name) is not str or not isinstance(tensor, pickle_reader.Tensor):
            kind = type(tensor).__name__
            raise CheckpointError(f"{str(name)[:200]!r} is a {kind}, expected a tensor")
        try:
            strides = _strides(tensor)
        except CheckpointError as error:
            raise CheckpointError(f"tensor {name[:200]!r}: {error}") from None
        dtype = _DTYPES[tensor.storage.kind]
        tensors[name] = mapped_tensor(
            file,
            starts[tensor.storage.key] + tensor.offset * dtype.itemsize,
            tensor.shape,
            dtype,
            tuple(stride * dtype.itemsize for stride in strides),
            verifiers.get(tensor.storage.key, lambda: None),
        )
    return tensors


def _open_zip(path: pathlib.Path) -> dict[str, StoredTensor]:
    entries = zip_file.open_entries(path)
    roots = {name.split("/")[0] for name in entries}
    if len(roots) != 1 or f"{next(iter(roots))}/data.pkl" not in entries:
        raise CheckpointError("a zip archive without ROOT/data.pkl is not a torch file")
    root = next(iter(roots))
    within = {name.removeprefix(f"{root}/"): entry for name, entry in entries.items()}
    pickled = within.pop("data.pkl")
    storages = _Storages((5,))
    text = pickled.content(LARGEST_PICKLE)
    value, end = pickle_reader.read(text, 0, storages.resolve)
    if end != len(text):
        raise pickled.fail("goes on after its end")
    if "byteorder" in within and within["byteorder"].content(16) != b"little":
        raise CheckpointError("big-endian torch files are not supported")
    starts, verifiers = {}, {}
    for key, storage in storages.named.items():
        entry = within.pop(f"data/{key}", None)
        if entry is None:
            raise CheckpointError(f"storage {key[:80]!r} is missing from the archive")
        size = storage.count * _DTYPES[storage.kind].itemsize
        if not entry.is_stored or entry.size != size:
            raise entry.fail(f"{entry.size} bytes, expected {size}, uncompressed")
        starts[key], verifiers[key] = entry.offset, entry.verify
    for name, entry in within.items():
        if name not in _ZIP_RECORDS and not name.startswith(".data/"):
            raise entry.fail("not part of a state dict")
        entry.content(LARGEST_PICKLE)
    file = pickled.file
    return _tensors(value, file, starts, verifiers)


def _open_legacy(path: pathlib.Path) -> dict[str, StoredTensor]:
    file = MappedFile(path)
    # Enough for every pickle before the raw bytes, which are not copied.
    head = file.memory[:LARGEST_PICKLE]
    storages = _Storages((6,))
    magic, position = pickle_reader.read(head, 0)
    protocol, position = pickle_reader.read(head, position)
    system, position = pickle_reader.read(head, position)
    if (type(magic), type(protocol)) != (int, int) or (magic, protocol) != (MAGIC, PROTOCOL):
        raise CheckpointError("its legacy magic or protocol number is not the known one")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError("not marked as little-endian")
    value, position = pickle_reader.read(head, position, storages.resolve)
    keys, position = pickle_reader.read(head, position)
    sound = type(keys) is list and all(type(key) is str for key in keys)
    if not sound or sorted(keys) != sorted(storages.named):
        raise CheckpointError("its list of storages is not the storages it uses")
    starts = {}
    for key in keys:
        storage = storages.named[key]
        stated = int.from_bytes(file.memory[position : position + 8], "little", signed=True)
        size = storage.count * _DTYPES[storage.kind].itemsize
        if stated != storage.count or position + 8 + size > file.size:
            raise CheckpointError(
                f"storage {key[:80]!r} is stated as {stated} elements of {storage.count}, "
                f"{max(0, file.size - position - 8)} bytes left of {size}"
            )
        starts[key] = position + 8
        position += 8 + size
    if position != file.size:
        raise CheckpointError(f"{file.size - position} bytes after the last storage")
    return _tensors(value, file, starts, {})


def open_file(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a .bin file by name; CheckpointError if it is not sound."""
    try:
        with regular.opened(path) as file:
            start = file.read(len(_MAGIC_START))
        if start.startswith(b"PK"):
            return _open_zip(path)
        if start == _MAGIC_START:
            return _open_legacy(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from None
    raise CheckpointError(f"{path}: neither form of torch file (damaged, or not one)")
