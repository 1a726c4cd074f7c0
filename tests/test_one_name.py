"""Everything under one import name: beside a user's own modules, and in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("toy", "theory", "training", "truncation", "bridge", "experiments")
TINY = [
    "--num_tokens=5", "--length=12", "--d_model=8", "--batch_size=4", "--feed_forward=linear",
    "--interventions=0.fc_in@0", "--rhos=0.5", "--eval_batch=8", "--final_batch=8", "--steps=2",
]  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path):
    """A directory with a user's own modules, which have our packages' names."""
    for name in OWN:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    return tmp_path


def run(folder, *arguments, path=ROOT):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        timeout=300, env=os.environ | {"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_modules_of_the_same_names_hide_nothing(elsewhere):
    code = (
        "from truncated_weights import bridge, theory, toy, truncation\n"
        "import truncated_weights as whole\n"
        "print(toy.train.__name__, truncation.cut.__name__, 'toy' in dir(whole))"
    )
    said = run(elsewhere, "-c", code)
    assert said == "train cut True\n"
    said = run(elsewhere, "-m", "truncated_weights.experiments", "noisy_recall", "--help")
    assert "--preset=NAME, one of the program's own: adam" in said
    assert "noisy_recall" in run(elsewhere, "-m", "truncated_weights.experiments")


@pytest.mark.thorough
def test_the_wheel_holds_one_package_with_its_flag_files_and_works_anywhere(elsewhere):
    built = elsewhere / "built"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={built}", ROOT], check=True)
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"truncated_weights"}
    inside = "truncated_weights/experiments"
    assert f"{inside}/noisy_recall/demo.flags" in names
    assert f"{inside}/report/templates/page.html" in names
    site = elsewhere / "site"
    subprocess.run([*pip, "install", "--no-deps", f"--target={site}", wheel], check=True)
    version = "import truncated_weights; print(truncated_weights.__version__)"
    assert run(elsewhere, "-c", version, path=site).strip()
    out = elsewhere / "run"
    program = ("-m", "truncated_weights.experiments", "noisy_recall", *TINY, f"--out={out}")
    assert "On clean sequences" in run(elsewhere, *program, path=site)
    reads = f"from truncated_weights import toy; print(toy.open({str(out)!r}).final.sizes['seed'])"
    assert run(elsewhere, "-c", reads, path=site) == "1\n"
