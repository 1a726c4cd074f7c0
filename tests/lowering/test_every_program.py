"""Every function that any program compiles lowers for accelerators, and every jax.jit is met."""

import ast
import dataclasses
import json
import os
from pathlib import Path

import pytest

from tests.faults.programs import TINY, make_inputs
from tests.lowering.watch import PLATFORMS, ROOT
from tests.test_house import MODULES
from truncated_weights.truncation import rules


@dataclasses.dataclass(frozen=True)
class Walk:
    """What one program told: see tests/lowering/watch.py."""

    lowered: dict[str, set[str]]
    refused: list[str]
    sites: set[str]


@dataclasses.dataclass(frozen=True)
class More:
    """A program of the fault matrix with other flags: they come last, and so they count.

    {inputs} stands for the folder of inputs. devices: of the processor, that JAX divides it into.
    """

    program: str
    flags: tuple[str, ...]
    devices: int = 1


# What the fault matrix does not reach.
MORE = {
    "two_layers": More(
        "noisy_recall",
        ("--feed_forward=linear,mlp", "--steps=20", "--eval_every=10", "--num_seeds=2",
         "--interventions=1.fc_in@0,0.fc_in@0.5,1.ov@0.5", "--variants=no_relu",
         "--bigram_batch=4", "--optimizer=adamw"),
    ),
    "attention_alone": More(
        "noisy_recall", ("--feed_forward=linear,none", "--steps=20", "--eval_every=10",
                         "--interventions=1.out_proj@0.5", "--loss_on=all", "--num_heads=2"),
    ),
    "noise_in_two_layers": More("find_noise", ("--run={inputs}/two",)),
    "cuts_of_two_layers": More(
        "truncate", ("--run={inputs}/two", "--interventions=1.fc_in@magnitude:0.5,1.ov@0.5",
                     "--curves=1.fc_out"),
    ),
    "many_devices": More("sweep", ("--devices=0", "--num_seeds=3", "--first_steps=2"), 4),
    "memory": More("associative_memory", ("--num_inputs=8", "--frequencies=zipf", "--shared=0.5")),
    "sampled_memory": More("associative_memory", ("--num_inputs=8", "--batch_size=4")),
    "theory": More(
        "verify_theory", ("--families=memory,frequent,decay,first,attention,learning,lazy,"
                          "transformer,plateau",),
    ),
    "closed_choice": More(
        "truncate_model", ("--tasks=fever:{inputs}/claims.jsonl", "--max_length=256"),
    ),
    "bfloat16": More(
        "truncate_model", ("--search=none", "--dtype=bfloat16",
                           "--interventions=1.fc_in@magnitude:0.5,0.q_proj@0.5+1.fc_out@0.5"),
    ),
    "one_by_one": More("benchmark_search", ("--baseline=one_by_one", "--baseline_prompts=2")),
    **{
        f"search_{name}": More("truncate_model", (f"--search={name}", "--objective=loss"))
        for name in rules.names()
        if name != "grid"
    },
}  # fmt: skip

# jax.jit by file and function that no program on an accelerator calls, and why.
LEFT_OUT = {
    "bridge/network/whole.py:_run": "on a processor alone: several layers in one program",
    "truncation/search/network.py:__init__": "what it compiles is the functions of who calls it",
}


@pytest.fixture(scope="session")
def inputs(house, tmp_path_factory):
    """The folder of inputs, filled as programs ask for them."""
    folder = tmp_path_factory.mktemp("inputs")
    claims = [
        {"claim": f"The hat of {name} is {colour}", "label": label}
        for name in ("Anna", "Mark", "Peter", "Lucy")
        for colour, label in (("red", "SUPPORTS"), ("green", "REFUTES"), ("blue", "REFUTES"))
    ]
    (folder / "claims.jsonl").write_text("".join(json.dumps(one) + "\n" for one in claims))
    two = [*TINY["noisy_recall"].command(folder, folder / "two"), "--feed_forward=linear,mlp",
           "--interventions=1.fc_in@0", "--steps=20", "--eval_every=10"]  # fmt: skip
    house.must("experiments.noisy_recall", two)
    return folder


@pytest.fixture(scope="session")
def walk(house, inputs, tmp_path_factory):
    """walk(name) runs a program of TINY or MORE under watch, once."""
    made = {}

    def run(name):
        if name not in made:
            more = MORE.get(name, More(name, ()))
            tiny, folder = TINY[more.program], tmp_path_factory.mktemp(name)
            make_inputs(inputs, tiny, house.must)
            told = folder / "told.jsonl"
            flags = [flag.replace("{inputs}", str(inputs)) for flag in more.flags]
            divided = f"--xla_force_host_platform_device_count={more.devices}"
            process = house.start(
                "tests.lowering.watch",
                [told, tiny.module, *tiny.command(inputs, folder / "out"), *flags],
                XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {divided}",
            )
            assert process.wait(1200) == 0, process.said[-3000:]
            made[name] = read(told)
        return made[name]

    return run


def read(told: Path) -> Walk:
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    lowered = {
        platform: {x["where"] for x in lines if "lowered" in x and x["platform"] == platform}
        for platform in PLATFORMS
    }
    refused = [
        f"{x['platform']}: {x['refused']} ({x['where']}): {x['why']}"
        for x in lines
        if "refused" in x
    ]
    return Walk(lowered, refused, {x["site"] for x in lines if "site" in x})


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TINY, *MORE])
def test_all_that_a_program_compiles_lowers(name, walk):
    found = walk(name)
    assert not found.refused, "\n".join(found.refused)
    cuda, tpu = found.lowered.values()
    assert cuda == tpu


def jit_sites() -> dict[str, str]:
    """FILE:LINE of every mention of jax.jit or its kin -> FILE:FUNCTION that it compiles or is in.

    Decorators lie in the function that they decorate.
    """
    found = {}

    def visit(node: ast.AST, path: str, name: str) -> None:
        if isinstance(node, ast.FunctionDef):
            name = node.name
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, ast.ImportFrom):  # never met: to be written as jax.jit
            names = [alias.name for alias in node.names]
        if {"jit", "pmap", "pjit"} & set(names):
            found[f"{path}:{node.lineno}"] = f"{path}:{name}"
        for inner in ast.iter_child_nodes(node):
            visit(inner, path, name)

    for path in MODULES.values():
        visit(ast.parse(path.read_text()), str(path.relative_to(ROOT)), "")
    return found


@pytest.mark.slow
def test_every_jit_is_met_by_a_program(walk):
    """A new one that no program of the walk compiles has to be added to MORE."""
    met = set().union(*(walk(name).sites for name in [*TINY, *MORE]))
    missed = {site: name for site, name in jit_sites().items() if site not in met}
    assert {site: name for site, name in missed.items() if name not in LEFT_OUT} == {}
    assert set(LEFT_OUT) == set(missed.values())
