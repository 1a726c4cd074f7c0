"""Strictness and thrift shared by all tests, set before JAX starts.

Eight virtual CPU devices let the sharding tests run anywhere; code under test
uses one device unless it is told otherwise.
"""

import atexit
import functools
import gc
import os
import threading
from pathlib import Path

import jax
import matplotlib as mpl
import pytest
from jax._src.interpreters import mlir

from truncated_weights.experiments.run.drawing import style

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the suite's time is XLA compiling the same small functions again: in each worker, in
# each process that a test starts, in each run of the suite. Kept beside pytest's own cache they
# are compiled once. Everything is kept, since most of it is one operation on one shape.
COMPILED = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(__file__).parents[1] / ".pytest_cache" / "compiled"
)
KEEP_ALL = {
    "JAX_COMPILATION_CACHE_DIR": COMPILED,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
os.environ |= KEEP_ALL  # for the processes that tests start
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# XLA's newer emitters of fused loops are slow to compile: without them, and with one piece of
# machine code per function instead of many in parallel, compiling takes a third of the time.
LEAN = (
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
    " --xla_cpu_parallel_codegen_split_count=1"
)
# Once only: a worker inherits them, and what is kept is kept under the flags it was made with.
if LEAN not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {LEAN}".strip()
mpl.use("Agg")
# Cutting a TrueType font to the letters of a figure takes longer than drawing it.
style.SETTINGS["pdf.fonttype"] = 3
# JAX gives every function that it lowers an MLIR context of its own, and every operation the
# whole stack of callers: a third of what lowering a small function costs. All that one thread
# lowers shares one as well; two threads must not, since a context is made for one at a time and
# JAX lets others run while it compiles.
jax.config.update("jax_include_full_tracebacks_in_locations", False)
context_of = functools.cache(lambda thread, make=mlir.make_ir_context: make())
mlir.make_ir_context = lambda: context_of(threading.get_ident())
# Tracing makes and drops small objects by the million beside a heap that stays: looking for
# cycles at Python's usual pace was a tenth of the suite's time.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish():
    """What importing and collecting has made stays: no collection of garbage need visit it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    """A worker whose results are told ends at once, without JAX emptying its caches first."""
    if hasattr(config, "workerinput"):
        atexit.register(os._exit, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile without optimising, except for slow tests.

    A fast test runs what it compiles a few times on a few numbers: optimising takes as long
    again as all the rest of compiling, and never pays for itself. The formulas are the same.
    """
    quick = item.get_closest_marker("slow") is None
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1" if quick else "0"
    jax.config.update("jax_disable_most_optimizations", quick)


@pytest.fixture(scope="session")
def house(tmp_path_factory):
    """Starts programs as processes without paying for their imports; see tests/faults/house.py."""
    from tests.faults.house import House

    opened = House(tmp_path_factory.mktemp("house"))
    yield opened
    opened.close()
