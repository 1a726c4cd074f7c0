"""What the user's environment holds: notebooks' backends, LaTeX, absent platforms, no home."""

import os
from pathlib import Path

import jax
import matplotlib as mpl
import pytest

from truncated_weights.experiments.run import program
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.program import UserError


@pytest.mark.fault("D1")
def test_figures_of_programs_know_no_matplotlibrc_of_the_users():
    theirs = {"text.usetex": True, "font.size": 31.0, "savefig.dpi": 7.0, "axes.grid": True}
    with mpl.rc_context(theirs):
        canvas, panels = style.figure(1, 1)
        text = panels[0, 0].set_title("a_b")
        assert not text.get_usetex()
        assert text.get_fontsize() == style.SETTINGS["axes.titlesize"]
        assert mpl.rcParams["savefig.dpi"] == "figure"
        assert mpl.rcParams["backend"].lower() == "agg"
        canvas.draw_without_rendering()


@pytest.mark.fault("D1")
def test_a_notebooks_backend_is_not_that_of_a_program(monkeypatch, drive, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    seen = []
    monkeypatch.setattr(program, "_require_device", lambda: seen.append(os.environ["MPLBACKEND"]))
    (ended,) = drive("export_metrics", [f"--run={tmp_path}", f"--out={tmp_path / 'out'}"])
    assert (seen, ended["code"]) == (["Agg"], 2)


@pytest.mark.fault("D2")
@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to\n  initialize")])
def test_a_platform_that_is_not_here_is_one_line(monkeypatch, drive, tmp_path, error):
    def refuse():
        raise error

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    (ended,) = drive("benchmark", [f"--out={tmp_path / 'out'}"])
    told = " ".join(str(error).split()) or "no device of that kind is here"
    assert ended["err"] == f"error: JAX does not start (JAX_PLATFORMS=cuda): {told}\n"
    assert ended["code"] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("D3")
@pytest.mark.parametrize("home", ["none", ""])
def test_without_a_home_nothing_compiled_is_kept(monkeypatch, home):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    if home == "none":
        monkeypatch.setattr(Path, "home", nowhere)
    program._keep_compilations()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_what_a_library_says_of_its_import_is_one_line(monkeypatch):
    def refuse():
        raise ValueError("invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'")

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(jax, "devices", refuse)
    with pytest.raises(UserError, match=r"JAX does not start: invalid truth value 'maybe'"):
        program._require_device()
