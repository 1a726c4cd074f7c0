"""Importing the library starts no device and brings neither torch nor the network."""

import subprocess
import sys

CHECK = """
import importlib, pkgutil, socket, sys

def refuse(*_, **__):
    raise AssertionError("an import opens a connection")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from truncated_weights import toy
for module in pkgutil.iter_modules(toy.__path__):
    importlib.import_module(f"truncated_weights.toy.{module.name}")
from truncated_weights.toy import language, recall, transformer
from truncated_weights.toy.recall_problem import RecallProblem
task = recall.make_task(language.zipf(8), alpha=0.5, length=8)
RecallProblem(task, transformer.TransformerConfig(task.vocab_size, 8, d_model=4), 2)
from jax._src import xla_bridge
assert not xla_bridge._backends, f"a backend was started: {list(xla_bridge._backends)}"
unwanted = {"torch", "requests", "httpx", "urllib3", "aiohttp", "huggingface_hub", "transformers"}
found = unwanted & set(sys.modules)
assert not found, f"imported: {found}"
ours = {name.split(".")[0] for name in sys.modules}
ours &= {"theory", "bridge", "mini_pythia", "experiments"}
assert not ours, f"toy imports {ours}"
"""


def test_import_touches_no_device_and_no_network():
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
