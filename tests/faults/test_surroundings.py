"""What surrounds a run: output that nobody reads, links, a directory that goes, an environment."""

import itertools
import os
import shutil
import signal

import pytest

from tests.faults.house import House, contents, refused, require_plain, until
from tests.faults.programs import TINY, make_inputs, require_strict

# A program or two of every column in `make thorough`, all of them in `make slow`.
LITTLE = ("associative_memory", "truncate_model")
EVERY = [
    pytest.param(name, marks=pytest.mark.thorough if name in LITTLE else pytest.mark.slow)
    for name in TINY
]
LINKED = (".previous", ".discarded", "figures", "checkpoints")
# A notebook's, where its backend is not installed; no home; a style that needs LaTeX.
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "HOME": None}


@pytest.fixture(scope="session")
def late_house(tmp_path_factory):
    """A house whose programs import for themselves what reads the environment on import."""
    opened = House(tmp_path_factory.mktemp("late_house"), late=True)
    yield opened
    opened.close()


@pytest.mark.fault("B4")
@pytest.mark.parametrize("name", EVERY)
def test_output_that_nobody_reads(name, house, inputs, undisturbed, tmp_path, table):
    whole = undisturbed(name)
    for output in ("gone", None):
        out = tmp_path / str(output)
        process = house.run(TINY[name], inputs, out, output=output)
        assert process.code == 0
        assert TINY[name].summary(out) == whole.summary
        require_strict(out)
        # Nothing that was said has landed in a file that took a closed descriptor's number.
        names = ({f for f in contents(o) if "checkpoints/" not in f} for o in (out, whole.out))
        assert next(names) == next(names)
    table(name, "closed output", "held")


@pytest.mark.fault("B2")
@pytest.mark.parametrize("name", EVERY)
def test_linked_directories(name, house, inputs, undisturbed, tmp_path, table):
    theirs = tmp_path / "theirs"
    for place, finished in itertools.product(LINKED, (True, False)):
        if place in ("figures", "checkpoints") and not (undisturbed(name).out / place).is_dir():
            continue
        # With what a run could take for its own.
        out = tmp_path / f"{place} {finished}"
        shutil.copytree(undisturbed(name).out, out, symlinks=True)
        if not finished:
            (out / "summary.json").unlink()
        shutil.copytree(out / place if (out / place).exists() else out, theirs, symlinks=True)
        shutil.rmtree(out / place, ignore_errors=True)
        (out / place).symlink_to(theirs)
        before, mine = contents(theirs), contents(out)
        more = ["--overwrite"] if finished else []
        assert f"{place} is a link" in refused(house.run(TINY[name], inputs, out, *more))
        assert (contents(theirs), contents(out)) == (before, mine)
        table(name, "linked directory", "refused")
        shutil.rmtree(theirs)


@pytest.mark.fault("B4")
@pytest.mark.parametrize("name", EVERY)
def test_a_directory_removed_under_a_run(name, house, inputs, tmp_path, table):
    for attempt in range(5):
        out = tmp_path / f"run{attempt}"
        process = house.start(TINY[name].module, TINY[name].command(inputs, out))
        assert until(lambda o=out, p=process: (o / "config.json").exists() or p.wait(0) is not None)
        if process.send(signal.SIGSTOP) and not (out / "summary.json").exists():
            shutil.rmtree(out)
            process.send(signal.SIGCONT)
            assert process.wait() is not None
            break
        process.send(signal.SIGCONT)
        process.wait()
    else:
        pytest.skip("it was too quick to have its directory taken away")
    assert "was removed or replaced" in refused(process, codes=(1,))
    # The checkpointer, at work in the background, may have made its own folder once more.
    assert not [f for f in contents(out) if not f.startswith("checkpoints/")]
    table(name, "removed directory", "one line")


@pytest.mark.fault("D1")
@pytest.mark.fault("D3")
@pytest.mark.parametrize("name", EVERY)
def test_a_notebooks_environment(name, late_house, inputs, undisturbed, tmp_path, table):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("text.usetex: True\nsavefig.dpi: 7\nno such key: 1\n")
    out = tmp_path / "run"
    process = late_house.run(TINY[name], inputs, out, MATPLOTLIBRC=str(rc), **NOTEBOOK)
    assert process.code == 0, process.said
    require_plain(process.said)
    assert TINY[name].summary(out) == undisturbed(name).summary
    made, expected = ({f: d for f, d in contents(o).items() if f.endswith(".pdf")}
                      for o in (out, undisturbed(name).out))  # fmt: skip
    assert made.keys() == expected.keys()
    table(name, "a notebook's environment", "held")


@pytest.mark.fault("D3")
@pytest.mark.parametrize("name", EVERY)
def test_numbers_of_64_bits(name, house, tmp_path, table):
    def start(module, arguments):
        process = house.start(module, arguments, JAX_ENABLE_X64="1")
        assert process.wait() == 0, process.said

    # A run is not read under another random stream than its own.
    mine = make_inputs(tmp_path / "inputs", TINY[name], start)
    process = house.run(TINY[name], mine, tmp_path / "run", JAX_ENABLE_X64="1")
    assert process.code == 0, process.said
    require_plain(process.said)
    require_strict(tmp_path / "run")
    table(name, "64 bits", "held")


@pytest.mark.fault("D2")
@pytest.mark.parametrize("name", EVERY)
def test_a_platform_that_is_not_here(name, house, inputs, tmp_path, table):
    for platform in ("cuda", "nonsense"):
        process = house.run(TINY[name], inputs, tmp_path / "run", JAX_PLATFORMS=platform)
        assert f"JAX_PLATFORMS={platform}" in refused(process, codes=(2,))
        assert not (tmp_path / "run").exists()
    table(name, "absent platform", "refused")


@pytest.mark.fault("C1")
@pytest.mark.parametrize("name", [p for p in EVERY if TINY[p.values[0]].reads])
def test_a_pipe_where_a_file_is_read(name, house, inputs, tmp_path, table):
    """Nobody writes into it: a program that opens it as a file waits for ever."""
    mine = tmp_path / "inputs"
    shutil.copytree(inputs, mine, symlinks=True)
    source = mine / TINY[name].reads[1]
    asked = [mine / p for p in ("colours.jsonl", "problems.jsonl") if p in str(TINY[name])]
    # The files of the hub's cache have no names but digests.
    kinds = (".json", ".jsonl", ".npz", ".safetensors", ".txt")
    read = [p for p in sorted(source.rglob("*"))
            if p.is_file() and (p.suffix in kinds or p.parent.name == "blobs")]  # fmt: skip
    tried = 0
    for file in [*asked, *read]:
        # Checkpoints, and the hub client's notes on its cache, are read by libraries of their own.
        if {"checkpoints", "trees"} & {*file.relative_to(mine).parts} or file.is_symlink():
            continue
        kept = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        process = house.start(TINY[name].module, TINY[name].command(mine, tmp_path / "run"))
        ended = process.wait(60)
        if ended is None:
            process.send(signal.SIGKILL)
        assert ended is not None, f"waits for {file.relative_to(mine)}"
        if ended:
            refused(process)
        tried += 1
        file.unlink()
        file.write_bytes(kept)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert tried
    table(name, "a pipe as input", "refused")
