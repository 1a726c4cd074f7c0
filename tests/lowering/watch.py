"""Run a program on the processor as if on an accelerator, and lower what it compiles for both.

    python -m tests.lowering.watch FILE MODULE ARGUMENTS...

runs MODULE as `python -m` would, in a process in which this project's own choices are those of an
accelerator (jax.default_backend, runs side by side vectorised). Every function that JAX lowers for
the processor is lowered for each of PLATFORMS too, with the same shapes, dtypes and placement: no
device is needed for that. FILE then says, one JSON object per line:

    {"lowered": NAME, "platform": P, "where": W}                it did
    {"refused": NAME, "platform": P, "where": W, "why": Y}      it did not, by JAX's own words
    {"site": "toy/surgery.py:122"}      a jax.jit of this project whose function was traced
"""

import contextlib
import functools
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax._src.interpreters import pxla

ROOT = Path(__file__).parents[2]
PLATFORMS = ("cuda", "tpu")
# Operations that hand over to the host: no accelerator goes on before it has answered.
CALLBACKS = ("pure_callback", "io_callback", "debug_callback")


def primitives(program: Any) -> Iterator[str]:
    """Names of all operations of a traced program, those inside loops and branches too."""
    for equation in program.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


@contextlib.contextmanager
def watch(tell: Callable[[dict[str, str]], None]) -> Iterator[None]:
    """Within, lower for every platform what is lowered, and tell of it.

    What JAX has lowered before in this process it does not lower again.
    """
    lower = pxla.lower_sharding_computation

    @functools.wraps(lower)
    def everywhere(program: Any, api_name: str, name: str, *rest: Any, **named: Any) -> Any:
        found = lower(program, api_name, name, *rest, **named)
        called = sorted(set(primitives(program.jaxpr)) & set(CALLBACKS))
        where = program.jaxpr.debug_info.func_src_info
        for platform in PLATFORMS:
            why = f"waits for the host in {', '.join(called)}" if called else ""
            try:
                lower(program, api_name, name, *rest, **named | {"lowering_platforms": (platform,)})
            except Exception as error:
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            told = {"platform": platform, "where": where}
            tell({"refused": name, **told, "why": why} if why else {"lowered": name, **told})
        return found

    pxla.lower_sharding_computation = everywhere
    try:
        yield
    finally:
        pxla.lower_sharding_computation = lower


def mark_sites(tell: Callable[[dict[str, str]], None]) -> None:
    """From now on, tell of every jax.jit in this project whose function is traced."""
    jit = jax.jit

    def marked(function: Any = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(marked, **options)
        frame = sys._getframe(1)
        file = Path(frame.f_code.co_filename).resolve()
        if not file.is_relative_to(ROOT) or file.relative_to(ROOT).parts[0] == ".venv":
            return jit(function, **options)
        site = f"{file.relative_to(ROOT)}:{frame.f_lineno}"

        @functools.wraps(function)
        def traced(*arguments: Any, **named: Any) -> Any:
            tell({"site": site})
            return function(*arguments, **named)

        return jit(traced, **options)

    jax.jit = marked


def pretend() -> None:
    """Let this project choose as it would on an accelerator."""
    jax.default_backend = lambda: "gpu"
    from truncated_weights.training import runs

    runs.together_by_default = lambda device, num_runs: num_runs


def main(file: str, module: str, *arguments: str) -> None:
    """Run a module under watch; see above."""
    told: set[str] = set()
    with open(file, "a") as lines:

        def tell(what: dict[str, str]) -> None:
            line = json.dumps(what)
            if line not in told:
                told.add(line)
                print(line, file=lines, flush=True)

        mark_sites(tell)
        pretend()
        sys.argv = [module, *arguments]
        with watch(tell):
            runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
