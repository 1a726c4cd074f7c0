"""A disk that fills up: one line, nothing half written, and with more room the run continues."""

import contextlib
import os
import subprocess

import pytest

from tests.faults.house import contents, refused
from tests.faults.programs import TINY
from tests.faults.test_interruptions import EVERY, continued


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of this many bytes; yields a function that enlarges it."""
    folder.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")

    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    mount(f"size={size}")
    try:
        yield lambda: mount("remount,size=256m")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("name", "little"), EVERY)
def test_a_full_disk_is_one_line_and_loses_nothing(
    name, little, house, inputs, undisturbed, tmp_path, table
):
    whole = undisturbed(name)
    # Small files take whole pages of 4 kB there.
    size = sum(-(-p.stat().st_size // 4096) * 4096 for p in whole.out.rglob("*") if p.is_file())
    before = contents(inputs)
    for share in (0.4,) if little else (0.15, 0.6):
        with small_disk(tmp_path / str(share), max(16_384, int(share * size))) as enlarge:
            out = tmp_path / str(share) / "run"
            process = house.run(TINY[name], inputs, out)
            if process.code != 0:
                refused(process, codes=(1,))
                assert not (out / "summary.json").exists()
                enlarge()
                continued(house, inputs, name, out, whole.summary)
            else:
                assert TINY[name].summary(out) == whole.summary
        assert contents(inputs) == before
        table(name, "full disk", "one line, then held" if process.code else "it fitted")
