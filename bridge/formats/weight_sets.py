"""Which weights of a directory are read when it holds several sets.

Order of preference, first found first taken:

    model.safetensors.index.json      shards
    pytorch_model.bin.index.json      shards
    model.safetensors                 one file
    pytorch_model.bin                 one file
    model.npz                         one file
    factored.safetensors              one file, written by bridge.export
    any other .npz                    if it is the only one

Shards go first because published training steps exist whose single file is the final model
while the shards are right (86 of the 154 steps of Pythia 2.8b); within each kind,
safetensors go before pickles. More than one set is worth a warning, always.
"""

import pathlib
import warnings

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import npz_file, safetensors_file, strict_json, torch_file
from truncated_weights.bridge.formats.stored import StoredTensor
from truncated_weights.truncation.files import telling

FACTORED_FILE = "factored.safetensors"
PREFERENCE = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "pytorch_model.bin",
    "model.npz",
    FACTORED_FILE,
)
_READERS = {
    ".safetensors": safetensors_file.open_file,
    ".bin": torch_file.open_file,
    ".npz": npz_file.open_file,
}
_MOST_SHARDS = 4096


def choose(directory: pathlib.Path) -> str:
    """The file name of the preferred weight set; warns if there are others.

    Raises CheckpointError if there is none.
    """
    found = [name for name in PREFERENCE if (directory / name).is_file()]
    if not found:
        archives = sorted(path.name for path in directory.glob("*.npz"))
        if len(archives) == 1:
            return archives[0]
        if len(archives) > 1:
            raise CheckpointError(
                f"{directory}: several .npz files and no model.npz; "
                f"say which is meant: weights={archives[0]!r}"
            )
        own = sorted(path.name for path in directory.glob("consolidated*"))
        if own:
            raise CheckpointError(
                f"{directory}: {own[0]} has the publisher's own layout, which is not read; "
                "fetch the files that transformers reads (model*.safetensors)"
            )
        shards = sorted(path.name for path in directory.glob("*-of-*"))
        missing = f" ({shards[0]} is there, but no index of the shards)" if shards else ""
        raise CheckpointError(
            f"{directory}: no weights found{missing}; looked for {', '.join(PREFERENCE)}"
        )
    if len(found) > 1:
        warnings.warn(
            f"{directory} holds several weight sets: reading {found[0]}, ignoring "
            f"{', '.join(found[1:])}; choose another with weights=NAME",
            stacklevel=4,
        )
    return found[0]


def _open_one(path: pathlib.Path) -> dict[str, StoredTensor]:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise CheckpointError(f"{path}: weights end in {', '.join(_READERS)} or .index.json")
    return reader(path)


def shard_map(index: pathlib.Path) -> dict[str, set[str]]:
    """Shard file name -> names of its tensors, from an index whose every name is safe."""
    weight_map = strict_json.read(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing, empty or not an object")
    suffix = pathlib.Path(index.name.removesuffix(".index.json")).suffix
    shards: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{index}: {tensor[:200]!r} is mapped to no file name")
        plain = file.isprintable() and not set(file) & set("/\\:") and not file.startswith(".")
        if not plain or not file.endswith(suffix):
            raise CheckpointError(
                f"{index}: shard {file[:200]!r} is not the plain name of a {suffix} file"
            )
        shards.setdefault(file, set()).add(tensor)
    if len(shards) > _MOST_SHARDS:
        raise CheckpointError(f"{index}: {len(shards)} shards are more than {_MOST_SHARDS}")
    return shards


def open_weights(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a weight file, or of all shards of an index, by stored name.

    Raises CheckpointError if a file is missing or unsound, or if a shard holds other
    tensors than the index says.
    """
    if not path.name.endswith(".index.json"):
        return _open_one(path)
    shards = shard_map(path)
    missing = sorted(name for name in shards if not (path.parent / name).is_file())
    if missing:
        raise CheckpointError(f"{path}: shards missing: {telling.some(missing)}")
    tensors: dict[str, StoredTensor] = {}
    for name, expected in shards.items():
        shard = _open_one(path.parent / name)
        wrong = sorted(expected.symmetric_difference(shard))
        if wrong:
            raise CheckpointError(
                f"{path}: {name} does not hold what the index says; differing: "
                f"{telling.some(wrong)}"
            )
        tensors.update(shard)
    return tensors
