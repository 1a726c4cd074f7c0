"""Every file of an unfinished run damaged in turn: the same result, or one line, nothing lost."""

import os
import random
import re
import shutil

import pytest

from tests.faults.house import contents, equal_or_refused
from tests.faults.programs import TINY
from tests.faults.test_interruptions import EVERY


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    found = bytearray(path.read_bytes())
    for place in {len(found) // 3, len(found) // 2} if found else ():
        found[place] ^= 0xFF
    path.write_bytes(bytes(found))


def empty(path):
    path.write_bytes(b"")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def nest(path):
    path.write_bytes(b"[" * 100_000 + b"9" * 5000)


KINDS = {
    "truncated": truncate, "flipped": flip, "emptied": empty, "removed": lambda p: p.unlink(),
    "a pipe": pipe, "nested": nest,
}  # fmt: skip


READ_BACK = ("config.json", "manifest.json", "metrics.jsonl", "records.nc")


def targets(folder):
    """Files worth damaging: of many checkpoints the last, of figures one."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    steps = {p: re.match(r"checkpoints/(?:\w+/)?(?:step)?(\d+)/", str(p.relative_to(folder)))
             for p in files}  # fmt: skip
    last = {}
    for path, found in steps.items():
        if found:
            kind = path.relative_to(folder).parts[1].rstrip("0123456789")
            last[kind] = max(last.get(kind, 0), int(found[1]))
    for path, found in steps.items():
        if found:
            kind = path.relative_to(folder).parts[1].rstrip("0123456789")
            if int(found[1]) != last[kind]:
                continue
        if path.parent.name != "figures":
            yield path
    yield from sorted(folder.glob("figures/*"))[:1]


@pytest.mark.parametrize(("name", "little"), EVERY)
def test_damaged_files(name, little, house, inputs, undisturbed, tmp_path, table):
    whole, chance = undisturbed(name), random.Random(f"damage {name}")
    before = contents(inputs)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(whole.out, unfinished, symlinks=True)
    (unfinished / "summary.json").unlink()
    files = list(targets(unfinished))
    for path in chance.sample(files, 4) if little else files:
        relative = path.relative_to(unfinished)
        # What programs read back is damaged in every way, what they only write in one.
        kept = relative.parts[0] == "checkpoints" and len(relative.parts) == 2
        kinds = list(KINDS) if kept or relative.name in READ_BACK else [chance.choice([*KINDS])]
        if little:
            kinds = [chance.choice(kinds)]
        for kind in kinds:
            out = tmp_path / "run"
            shutil.copytree(unfinished, out, symlinks=True)
            KINDS[kind](out / relative)
            held = contents(out)
            process = house.run(TINY[name], inputs, out)
            try:
                verdict = equal_or_refused(process, TINY[name], out, whole.summary)
            except AssertionError as error:
                raise AssertionError(f"{relative} {kind}: {error}") from error
            if verdict == "refused":
                left = contents(out)
                assert {f: left.get(f) for f in held} == held, f"{relative} {kind}: files changed"
            table(name, "damaged file", verdict)
            shutil.rmtree(out)
    assert contents(inputs) == before
