"""Files made to harm: each gives one clear CheckpointError, and nothing is executed."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from tests.bridge import make
from truncated_weights import bridge
from truncated_weights.bridge.formats import (
    pickle_reader,
    safetensors_file,
    strict_json,
    torch_file,
    weight_sets,
    zip_file,
)

WEIGHTS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.float32),
}


def refused(match):
    return pytest.raises(bridge.CheckpointError, match=match)


def read_pickle(data):
    storages = torch_file._Storages((5,))
    return pickle_reader.read(data, 0, storages.resolve)[0]


# Pickles.


class Touch:
    """Unpickled by the standard library, this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_pickle_that_would_act_is_refused_and_does_not_act(tmp_path, form):
    victim = tmp_path / "executed"
    attack = pickle.dumps({"a": Touch(victim)}, protocol=2)
    pickle.loads(attack)["a"].close()
    assert victim.exists()  # the attack works where it is not defended against
    victim.unlink()
    path = tmp_path / "pytorch_model.bin"
    if form == "zip":
        make.write_torch_zip(path, {}, pickled=attack)
    else:
        path.write_bytes(make.dumps(torch_file.MAGIC) + make.dumps(1001) + attack)
    with refused(r"pytorch_model.bin: .*names (_?io|builtins|__builtin__)\.open, which is not al"):
        torch_file.open_file(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch", "FloatStorage.__class__"),
        ("torch", "UntypedStorage"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2\\n"),
        ("collections", "OrderedDict.__reduce__"),
        ("collections", "defaultdict"),
        ("bridge.checkpoint", "load"),
        ("", ""),
    ],
)
def test_every_other_global_is_refused_by_name(module, name):
    data = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"."
    with refused("which is not allowed; nothing was run"):
        read_pickle(data)


def test_the_allowed_globals_are_exactly_those_needed():
    storages = {
        f"torch.{kind}Storage"
        for kind in ("Half", "Float", "BFloat16", "Byte", "Bool", "Long", "Int", "Double")
    }
    expected = storages | {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2"}
    assert {f"{g.module}.{g.name}" for g in pickle_reader.ALLOWED} == expected
    marker = read_pickle(b"\x80\x02ccollections\nOrderedDict\n.")
    assert type(marker) is pickle_reader.Global


ORDERED = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
FLOAT = b"ctorch\nFloatStorage\n"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "ends too early"),
        (b"N", "ends too early"),
        (b".", "takes from an empty stack"),
        (b"NN.", "leaves something on its stack"),
        (b"X\xff\xff\xff\xffabc.", "ends too early"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "opcode .* is not allowed"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "opcode .* is not allowed"),
        (b"h\x05.", "recalls memo 5"),
        (b"j\xff\xff\xff\xff.", "recalls memo 4294967295"),
        (b"t.", "a group without beginning"),
        (b"(.", "takes from an empty stack"),
        (b"(q\x00.", "takes from an empty stack"),
        (b"NX\x01\x00\x00\x00aNs.", "expected a dict on the stack"),
        (b"}(X\x01\x00\x00\x00aNX\x01\x00\x00\x00aNu.", "the key 'a' occurs twice"),
        (b"}X\x01\x00\x00\x00aNsX\x01\x00\x00\x00aNs.", "the key 'a' occurs twice"),
        (b"}(Nu.", "a key but no value"),
        (b"}]Ns.", "a dict key that is not a string"),
        (b"}Nb.", "sets a state that is not a dict"),
        (b"N}b.", "expected a dict on the stack"),
        (ORDERED + b"(Nt" + b"R.", "calls something other than"),
        (ORDERED + b"NR.", "arguments are not a tuple"),
        (FLOAT + b")R.", "calls something other than"),
        (REBUILD + b")R.", "with 0 arguments"),
        (REBUILD + b"(NNNNNNtR.", "arguments of the wrong kind"),
        (b"NQ.", "not a storage"),
        (b"(X\x07\x00\x00\x00storage" + ORDERED + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x05tQ.",
         "not a storage of a known type"),
        (b"cos\nsystem\n", "names os.system"),
        (b"c" + b"a" * 300, "a name without end"),
        (b"\x81.", "opcode"),
        (b"\x93.", "opcode"),
        (b"i__builtin__\neval\n.", "opcode"),
        (b"(o.", "opcode"),
        (b"\x82\x01.", "opcode"),
        (b"Pabc\n.", "opcode"),
    ],
)  # fmt: skip
def test_pickles_that_are_not_state_dicts(body, complaint):
    with refused(complaint):
        read_pickle(b"\x80\x02" + body)


def test_other_protocols_are_refused():
    for protocol in (0, 1, 3, 4, 5):
        with refused("expected pickle protocol 2"):
            read_pickle(pickle.dumps({"a": 1}, protocol=protocol))


def test_plain_values_are_those_of_the_standard_library():
    rng = np.random.default_rng(0)

    def value(depth):
        kind = rng.integers(0, 9 if depth else 6)
        if kind < 6:
            big = int(rng.integers(-(2**62), 2**62)) ** 3
            return [None, True, big, int(rng.integers(-300, 70000)), 0.1, "Füße"][kind]
        size = rng.integers(0, 5)
        items = [value(depth - 1) for _ in range(size)]
        return [items, tuple(items), {f"k{i}": item for i, item in enumerate(items)}][kind - 6]

    for _ in range(200):
        thing = value(4)
        assert read_pickle(pickle.dumps(thing, protocol=2)) == thing


def test_nesting_and_cycles_do_not_recurse(tmp_path):
    path, depth = tmp_path / "w.bin", 20_000
    nested = b"\x80\x02" + b"]" * (depth + 1) + b"a" * depth + b"."
    make.write_torch_zip(path, {}, pickled=nested)
    with refused("holds a list, expected a dict"):
        torch_file.open_file(path)
    path.write_bytes(make.dumps(torch_file.MAGIC) + nested)
    with refused("magic or protocol number|ends too early"):
        torch_file.open_file(path)
    cycle = read_pickle(b"\x80\x02]q\x00h\x00a.")
    assert cycle[0] is cycle


# Tensors and storages.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"count": 13}, r"48 bytes, expected 52|stated as 12 elements of 13"),
        ({"count": 2**61}, r"48 bytes, expected|stated as 12 elements of"),
        ({"count": -1}, "a storage"),
        ({"offset": 1}, "reach beyond a storage of 12"),
        ({"offset": 2**61}, "offset 2305843009213693952 of a storage of 12"),
        ({"offset": -1}, "arguments of the wrong kind"),
        ({"shape": (4, 4)}, "reach beyond a storage of 12"),
        ({"shape": (2**40, 2**40)}, "reach beyond|overlap"),
        ({"shape": (3, 4, 1)}, "arguments of the wrong kind"),
        ({"shape": (-3, 4)}, "arguments of the wrong kind"),
        ({"strides": (4, 0)}, "overlap"),
        ({"strides": (0, 0)}, "overlap"),
        ({"strides": (3, 1)}, "overlap"),
        ({"strides": (5, 1)}, "reach beyond a storage of 12"),
        ({"strides": (2**61, 1)}, "reach beyond a storage of 12"),
        ({"strides": (-4, 1)}, "arguments of the wrong kind"),
        ({"shape": (1,) * 9, "strides": (1,) * 9}, "arguments of the wrong kind"),
        ({"key": "1"}, "named with two types or sizes"),
        ({"key": "../b"}, "missing from the archive|list of storages"),
        ({"key": "7"}, "missing from the archive|list of storages"),
        ({"kind": make._named("torch", "DoubleStorage")}, r"48 bytes, expected 96|stated|left"),
        ({"kind": make._named("os", "system")}, "names os.system"),
        ({"kind": "FloatStorage"}, "not a storage of a known type"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_claims_beyond_a_storage(tmp_path, form, changes, complaint):
    path = tmp_path / "w.bin"
    write = make.write_torch_zip if form == "zip" else make.write_torch_legacy
    write(path, WEIGHTS)
    assert {k: t.shape for k, t in torch_file.open_file(path).items()} == {"a": (3, 4), "b": (5,)}
    write(path, WEIGHTS, **changes)
    with refused(complaint) as caught:
        torch_file.open_file(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_legacy_files_end_where_they_should(tmp_path):
    path = tmp_path / "w.bin"
    for tail, keys, complaint in (
        (b"x", None, "1 bytes after the last storage"),
        (b"", ["0"], "list of storages"),
        (b"", ["0", "1", "1"], "list of storages"),
        (b"", [0, 1], "list of storages"),
    ):
        make.write_torch_legacy(path, WEIGHTS, tail=tail, keys=keys)
        with refused(complaint):
            torch_file.open_file(path)
    make.write_torch_legacy(path, WEIGHTS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with refused(r"w\.bin: "):
            torch_file.open_file(path)


def test_what_is_not_a_dict_of_tensors(tmp_path):
    path = tmp_path / "w.bin"
    for value, complaint in (
        ([1, 2], "holds a list, expected a dict of tensors"),
        ({"model": {"a": 1}}, "'model' is a dict, expected a tensor"),
        ({"epoch": 3}, "'epoch' is a int, expected a tensor"),
        ({7: 3}, "a dict key that is not a string"),
    ):
        make.write_torch_zip(path, {}, pickled=make.dumps(value))
        with refused(complaint):
            torch_file.open_file(path)


@pytest.mark.fault("C3")
def test_keys_that_are_integers_are_refused(tmp_path):
    """Of 250,000 multiples of 2**61 - 1 the hashes are all 0: a dict of them takes minutes."""
    keys = b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(9))
    with refused("a dict key that is not a string"):
        read_pickle(b"\x80\x02}(" + keys + b"u.")
    with refused("stores memo 4096 after 0 others"):
        read_pickle(b"\x80\x02Nr\x00\x10\x00\x00.")
    assert read_pickle(b"\x80\x02]q\x00q\x00.") == []


# What is not a file, and what is more than can be told or held.


@pytest.mark.fault("C1")
@pytest.mark.parametrize(
    "name", ["w.safetensors", "w.bin", "w.npz", "w.safetensors.index.json", "w.bin.index.json"]
)
def test_a_pipe_is_no_weights(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with refused("cannot be read .not a regular file.") as caught:
        weight_sets.open_weights(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.fault("C1")
def test_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with refused("not a regular file"):
        bridge.load(tmp_path)


@pytest.mark.fault("C2")
def test_a_header_is_sized_before_it_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((90_000_000).to_bytes(8, "little"))
    os.truncate(path, 90_000_100)
    with refused(r"a header of 85\.8 MB would take up to 2\.0 GB as objects; at most 16\.0 MB"):
        safetensors_file.open_file(path)


@pytest.mark.fault("C2")
def test_an_archive_is_sized_before_it_is_unpacked(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"1")
    # Both headers claim three gigabytes.
    claim = struct.pack("<I", 3 * 2**30)
    content = bytearray(path.read_bytes())
    content[22:26] = claim
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = claim
    path.write_bytes(content)
    with refused(r"unpacking it would take 3\.0 GB, and 256\.0 MB are allowed"):
        weight_sets.open_weights(path)


@pytest.mark.fault("C4")
@pytest.mark.fault("C5")
def test_of_many_names_the_first_are_told_and_none_acts(tmp_path):
    directory = make.write_config(tmp_path / "m")
    names = [f"\x1b[31mlayers.{i}.{'x' * 150}" for i in range(2_000)]
    safetensors_file.write_file(
        directory / "model.safetensors",
        dict.fromkeys(names, (1,)),
        np.dtype(np.float32),
        (np.zeros(1, np.float32) for _ in names),
    )
    with refused(r"unexpected: \\x1b\[31mlayers\.0\..* and 1,992 more") as caught:
        bridge.load(directory)
    assert len(str(caught.value)) < 5000
    assert "\x1b" not in str(caught.value)
    index = {"weight_map": {name: "model.safetensors" for name in names[1:]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with refused("differing") as caught:
        weight_sets.open_weights(directory / "model.safetensors.index.json")
    assert len(str(caught.value)) < 1000
    (directory / "config.json").write_text(
        json.dumps({"model_type": "llama", **dict.fromkeys(names, 1)})
    )
    with refused("m") as caught:
        bridge.load(directory)
    assert len(str(caught.value)) < 5000
    assert "\x1b" not in str(caught.value)


# Zip archives.


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (("archive/data/9", b"1234"), "'archive/data/9': not part of a state dict"),
        (("archive/code/a.py", b"1"), "not part of a state dict"),
        (("other/data.pkl", b"1"), "a zip archive without ROOT/data.pkl"),
        (("archive/../x", b"1"), "unsafe name"),
        (("/etc/passwd", b"1"), "unsafe name"),
        (("archive/a\\b", b"1"), "unsafe name"),
        (("archive/C:x", b"1"), "unsafe name"),
        (("archive//x", b"1"), "unsafe name"),
        (("archive/byteorder", b"big"), "big-endian"),
    ],
)
def test_entries_that_do_not_belong(tmp_path, extra, complaint):
    path = tmp_path / "w.bin"
    make.write_torch_zip(path, WEIGHTS, extra=[extra])
    with refused(complaint):
        torch_file.open_file(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_given_twice(tmp_path):
    path = tmp_path / "w.bin"
    make.write_torch_zip(path, WEIGHTS, extra=[("archive/data/0", b"1234")])
    with refused("'archive/data/0' occurs twice"):
        torch_file.open_file(path)


def test_every_damaged_payload_byte_of_a_zip_is_noticed(tmp_path):
    path = tmp_path / "w.bin"
    make.write_torch_zip(path, WEIGHTS)
    whole = bytearray(path.read_bytes())
    for array in WEIGHTS.values():
        start = whole.index(array.tobytes())
        for position in range(start, start + array.nbytes):
            damaged = bytearray(whole)
            damaged[position] ^= 4
            path.write_bytes(damaged)
            with refused("checksum does not hold"):
                for tensor in torch_file.open_file(path).values():
                    tensor.verify()


def test_compressed_storages_and_bombs(tmp_path):
    path = tmp_path / "w.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r/data.pkl", make.dumps({"a": make.torch_tensor("0", WEIGHTS["a"])}))
        archive.writestr("r/data/0", WEIGHTS["a"].tobytes())
    with refused("uncompressed"):
        torch_file.open_file(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r/data.pkl", b"\x80\x02" + b"]" * 2**26)
    with refused("bytes are more than the 4194304 allowed"):
        torch_file.open_file(path)
    # The same bomb, claiming to be small in both headers.
    content = path.read_bytes().replace(struct.pack("<I", 2**26 + 2), struct.pack("<I", 100))
    path.write_bytes(content)
    with refused("unpacks to more than the 100 bytes it claims"):
        torch_file.open_file(path)


def test_entries_that_overlap(tmp_path):
    """Two directory entries for the same bytes: many tensors from few bytes on disk."""
    path = tmp_path / "w.bin"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("r/data/0", "r/data/1"):
            archive.writestr(name, b"1234")
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 42 : second + 46] = bytes(4)  # its local header is that of the first
    path.write_bytes(content)
    with refused("overlap|damaged local header|not a readable zip"):
        zip_file.open_entries(path)


def test_pickles_inside_an_npz_are_never_read(tmp_path):
    directory = make.write_config(tmp_path / "m")
    np.savez(directory / "model.npz", x=np.asarray([Touch(tmp_path / "executed")], object))
    with refused("holds Python objects, which are never read"):
        bridge.load(directory)
    assert not (tmp_path / "executed").exists()


# JSON: safetensors headers, indexes and configurations.


def safetensors_bytes(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read"),
        (b"1234567", "too few"),
        (b"\xff" * 8, "header claims"),
        ((2**63).to_bytes(8, "little") + b"{}", "header claims"),
        (safetensors_bytes(b"{}", b"x"), "the tensors cover 0 of 1 payload bytes"),
        (safetensors_bytes(b"[]"), "expected a JSON object"),
        (safetensors_bytes(b"{" * 9), "not JSON"),
        (safetensors_bytes(b'{"a":' * 100_000), "nested too deeply|not JSON"),
        (safetensors_bytes(b'{"a": NaN}'), "NaN is not JSON"),
        (safetensors_bytes(b'{"a": ' + b"9" * 5000 + b"}"), "a number of 5000 digits"),
        (safetensors_bytes(b"\xff\xfe{}"), "not JSON"),
        (safetensors_bytes(b'{"a": 1, "a": 2}'), "the key 'a' occurs twice"),
        (safetensors_bytes({"a": 1}), "expected exactly dtype, shape and data_offsets"),
        (safetensors_bytes({"a": entry() | {"x": 1}}, bytes(8)), "expected exactly"),
        (safetensors_bytes({"__metadata__": {"a": 1}}), "__metadata__"),
        (safetensors_bytes({"a": entry(dtype="C64")}, bytes(8)), "dtype 'C64' is not supported"),
        (safetensors_bytes({"a": entry(dtype=["F32"])}, bytes(8)), "is not supported"),
        (safetensors_bytes({"a": entry(shape=(-2,))}, bytes(8)), "natural numbers"),
        (safetensors_bytes({"a": entry(shape=(2.0,))}, bytes(8)), "natural numbers"),
        (safetensors_bytes({"a": entry(shape=(True, 2))}, bytes(8)), "natural numbers"),
        (safetensors_bytes({"a": entry(offsets=(0, 8, 8))}, bytes(8)), "natural numbers"),
        (safetensors_bytes({"a": entry(offsets=(8, 0))}, bytes(8)), "does not fit bytes"),
        (safetensors_bytes({"a": entry(offsets=(0, 12))}, bytes(12)), "does not fit bytes"),
        (safetensors_bytes({"a": entry(shape=(2**60, 2**60))}, bytes(8)), "does not fit"),
        (safetensors_bytes({"a": entry()}, bytes(7)), "does not fit bytes 0 to 8 of 7"),
        (safetensors_bytes({"a": entry()}, bytes(9)), "cover 8 of 9 payload bytes"),
        (safetensors_bytes({"a": entry(), "b": entry()}, bytes(8)), "overlap or are unused"),
        (safetensors_bytes({"a": entry(offsets=(1, 9))}, bytes(9)), "overlap or are unused"),
        (
            safetensors_bytes({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
            "overlap or are unused",
        ),
    ],
)
def test_damaged_safetensors(tmp_path, content, complaint):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with refused(complaint) as caught:
        safetensors_file.open_file(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("weight_map", "complaint"),
    [
        ({"a": "../w.safetensors"}, "is not the plain name of a .safetensors file"),
        ({"a": "/etc/w.safetensors"}, "is not the plain name"),
        ({"a": "sub/w.safetensors"}, "is not the plain name"),
        ({"a": "..\\w.safetensors"}, "is not the plain name"),
        ({"a": "C:w.safetensors"}, "is not the plain name"),
        ({"a": "w\u0000.safetensors"}, "is not the plain name"),
        ({"a": "w.bin"}, "is not the plain name"),
        ({"a": ".safetensors"}, "is not the plain name"),
        ({"a": 3}, "mapped to no file name"),
        ({"a": "absent.safetensors"}, "shards missing: absent.safetensors"),
        ({}, "missing, empty or not an object"),
        ([], "missing, empty or not an object"),
        ({"a": "w.safetensors"}, "does not hold what the index says; differing: b"),
        ({"a": "w.safetensors", "b": "w.safetensors", "c": "w.safetensors"}, "differing: c"),
    ],
)
def test_damaged_indexes(tmp_path, weight_map, complaint):
    safetensors_file.write_file(
        tmp_path / "w.safetensors",
        {name: array.shape for name, array in WEIGHTS.items()},
        np.dtype(np.float32),
        WEIGHTS.values(),
    )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with refused(complaint):
        weight_sets.open_weights(index)


def test_a_configuration_cannot_ask_for_the_impossible(tmp_path):
    directory = make.write_config(tmp_path / "m")
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"num_hidden_layers": 10**9}))
    with refused(r"config\.json: num_layers is 1000000000"):
        bridge.load(directory)
    (directory / "config.json").write_text('{"vocab_size": 3, "vocab_size": 4}')
    with refused("the key 'vocab_size' occurs twice"):
        bridge.load(directory)


def test_large_json_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    monkeypatch.setattr(strict_json, "LARGEST_FILE", 100)
    path.write_text("{" + " " * 200 + "}")
    with refused("202 bytes are more than the 100 bytes that are read"):
        strict_json.read(path)


def test_huge_claims_take_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "w.bin"
    claim = 2**50
    make.write_torch_zip(path, WEIGHTS, count=claim, shape=(claim,), strides=(1,))
    with refused("expected"):
        torch_file.open_file(path)
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    damaged = stream.getvalue().replace(b"(3,), }" + b" " * 11, b"(999999999999,), }")
    assert len(damaged) == len(stream.getvalue())
    assert damaged != stream.getvalue()
    directory = make.write_config(tmp_path / "m")
    with zipfile.ZipFile(directory / "model.npz", "w") as archive:
        archive.writestr("x.npy", damaged)
    with refused("12 bytes do not fit"):
        bridge.load(directory)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024
