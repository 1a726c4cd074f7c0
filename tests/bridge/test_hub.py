"""Fetching, with the real client, from a hub that runs in this process."""

import json
import pathlib
import socket

import pytest

from tests.bridge import fake_hub
from truncated_weights import bridge
from truncated_weights.bridge import hub

TINY = pathlib.Path(__file__).parents[1] / "data" / "tiny_gpt_neox"
NAME = "somebody/tiny"


def files(folder):
    contents = {
        path.name: path.read_bytes() for path in (TINY / folder).iterdir() if path.is_file()
    }
    return {"config.json": (TINY / "config.json").read_bytes()} | contents


def trained(content, step):
    """The same file after more training: its last byte is another."""
    return content[:-1] + bytes([step])


@pytest.fixture(scope="module")
def served():
    single, shards = files("safetensors_fp16"), files("sharded_fp16")
    last = "pytorch_model-00003-of-00003.bin"
    repositories = {
        NAME: {
            "main": {**single, "README.md": b"hello", "pytorch_model.bin": b"not wanted"},
            "step0": single,
            "step1": single,
            "step2": {
                **single,
                "model.safetensors": trained(single["model.safetensors"], 7),
            },
            "step1000": {**shards, "model.safetensors": single["model.safetensors"]},
            "step2000": {k: v for k, v in shards.items() if k != last},
        },
        "somebody/empty": {"main": {"config.json": b"{}", "flax_model.msgpack": b""}},
    }
    refuse = {
        "somebody/gated": (403, "GatedRepo"),
        "somebody/broken": (500, "Whatever"),
    }
    with fake_hub.running(repositories, refuse) as running:
        yield running


def fetch(served, tmp_path, revision="main", name=NAME, **keywords):
    return hub.fetch(name, revision, cache=tmp_path / "cache", endpoint=served.endpoint, **keywords)


def test_only_the_preferred_weights_are_fetched_and_they_load(served, tmp_path):
    served.served.clear()
    fetched = fetch(served, tmp_path)
    assert (fetched.weights, fetched.from_cache) == ("model.safetensors", False)
    assert {name for _, name in served.served} == {"config.json", "model.safetensors"}
    assert bridge.load(fetched.directory).config.d_model == 32


def test_shards_go_before_the_single_file(served, tmp_path):
    fetched = fetch(served, tmp_path, "step1000")
    assert fetched.weights == "pytorch_model.bin.index.json"
    assert not (fetched.directory / "model.safetensors").exists()
    assert len(hub.content_hashes(fetched)) == 3
    assert bridge.load(fetched.directory).weights == fetched.weights


def test_offline_needs_what_was_fetched_before(served, tmp_path):
    with pytest.raises(hub.HubError, match=r"working offline, and somebody/tiny at step1000 is n"):
        fetch(served, tmp_path, "step1000", offline=True)
    online = fetch(served, tmp_path, "step1000")
    offline = fetch(served, tmp_path, "step1000", offline=True)
    assert offline.from_cache
    assert (offline.directory, offline.weights) == (online.directory, online.weights)
    shard = next(online.directory.glob("*-00002-*"))
    shard.unlink()
    with pytest.raises(hub.HubError, match="is not complete in the local cache"):
        fetch(served, tmp_path, "step1000", offline=True)


def test_an_unreachable_hub_is_the_same_as_offline(served, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    cache = tmp_path / "cache"
    with pytest.raises(hub.HubError, match=r"the hub cannot be reached \(ConnectError\), and some"):
        hub.fetch(NAME, cache=cache, endpoint=nowhere)
    fetch(served, tmp_path)
    assert hub.fetch(NAME, cache=cache, endpoint=nowhere).from_cache


@pytest.mark.parametrize(
    ("name", "revision", "complaint"),
    [
        ("somebody/absent", "main", "there is no model 'somebody/absent' on the hub, or it is pr"),
        (NAME, "step3", "has no revision 'step3'; look at its branches"),
        ("somebody/gated", "main", "is gated: accept its terms on its page"),
        ("somebody/broken", "main", "the hub answered 500 for somebody/broken at main; try again"),
        ("somebody/empty", "main", "holds no weights this package reads; looked for model.saf"),
        ("a/b/c", "main", "'a/b/c' is not a model name; expected OWNER/NAME"),
        (NAME, "step2000", "came without pytorch_model-00003-of-00003.bin; fetch it again"),
    ],
)
def test_each_failure_is_one_line_that_says_what_to_do(served, tmp_path, name, revision, complaint):
    with pytest.raises(hub.HubError, match=complaint) as caught:
        fetch(served, tmp_path, revision, name)
    assert "\n" not in str(caught.value)


def test_files_that_steps_share_are_found(served, tmp_path):
    hashes = {
        step: hub.content_hashes(fetch(served, tmp_path, step))
        for step in ("step0", "step1", "step2")
    }
    assert hub.identical_files(hashes) == [("model.safetensors", ("step0", "step1"))]
    shards = {
        "step1000": {"a-1.bin": "x", "a-2.bin": "y"},
        "step2000": {"a-1.bin": "z", "a-2.bin": "y"},
    }
    assert hub.identical_files(shards) == [("a-2.bin", ("step1000", "step2000"))]


def test_shared_weights_are_known_before_anything_is_downloaded(served, tmp_path):
    served.served.clear()
    asked = ("step0", "step1", "step2", "step1000")
    found = hub.shared_weights(NAME, asked, endpoint=served.endpoint)
    # main's pytorch_model.bin and step1000's single file are not what is read.
    assert found == [("model.safetensors", ("step0", "step1", "main"))]
    assert hub.shared_weights(NAME, ("step2",), endpoint=served.endpoint) == []
    assert not served.served
    published = hub.published_hashes(NAME, "step1000", endpoint=served.endpoint)
    assert published == hub.content_hashes(fetch(served, tmp_path, "step1000"))
    with pytest.raises(hub.HubError, match="has no revision 'step3'"):
        hub.shared_weights(NAME, ("step3",), endpoint=served.endpoint)


def test_the_last_step_is_the_final_model():
    whole = files("safetensors_fp16")
    repositories = {NAME: {"main": whole, "step143000": whole, "step1000": whole}}
    with fake_hub.running(repositories) as running:
        assert hub.shared_weights(NAME, ("step143000",), endpoint=running.endpoint) == []
        found = hub.shared_weights(NAME, ("step1000",), endpoint=running.endpoint)
    assert found == [("model.safetensors", ("step1000", "main"))]


def test_published_steps():
    assert len(hub.STEPS) == 154
    assert hub.step_revision(512) == "step512"
    for step in (-1, 3, 600, 144_000):
        with pytest.raises(ValueError, match=f"step {step} was not published"):
            hub.step_revision(step)


def test_an_index_that_escapes_is_refused(served, tmp_path):
    bad = {"weight_map": {"a": "../../secret.bin"}}
    branch = dict(files("sharded_fp16"))
    branch["pytorch_model.bin.index.json"] = json.dumps(bad).encode()
    with (
        fake_hub.running({NAME: {"main": branch}}) as running,
        pytest.raises(bridge.CheckpointError, match=r"is not the plain name of a .bin file"),
    ):
        fetch(running, tmp_path)
