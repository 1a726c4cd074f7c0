"""Whole files or none, in their own folder and nowhere else."""

import os

import pytest

from truncated_weights.training import atomic


@pytest.mark.fault("B2")
def test_what_is_written_beside_its_place_follows_no_link_and_has_no_name_to_guess(
    tmp_path, monkeypatch
):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for place in (f".a.{os.getpid()}", ".a.0123"):
        (tmp_path / place).symlink_to(victim)
    atomic.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert victim.read_text() == "precious"
    # Even one whose name was guessed: the file is made anew or not at all.
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: "0123")
    with pytest.raises(FileExistsError):
        atomic.write_text(tmp_path / "a", "other")
    assert (tmp_path / "a").read_text() == "new"
    assert victim.read_text() == "precious"


@pytest.mark.fault("B2")
def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path):
    victim, target = tmp_path / "victim", tmp_path / "a"
    victim.write_text("precious")
    target.symlink_to(victim)
    atomic.write_bytes(target, b"new")
    assert (target.is_symlink(), target.read_bytes()) == (False, b"new")
    assert victim.read_text() == "precious"
    target.unlink()
    target.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), open(target, "a", opener=atomic.opener):
        pass


def fail_in_the_midst(target):
    with atomic.replacing(target) as file:
        file.write(b"half")
        raise ValueError


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / ("x" * 255)
    atomic.write_text(target, "ä")
    with pytest.raises(ValueError, match=r"^$"):
        fail_in_the_midst(target)
    assert (os.listdir(tmp_path), target.read_text(encoding="utf-8")) == ([target.name], "ä")


@pytest.mark.fault("B2")
def test_what_a_kill_left_is_found_by_its_very_name_and_by_no_pattern(tmp_path):
    names = [".a*.0123456789abcdef", ".ab.0123456789abcdef", ".a*.bak", ".a*.0123456789abcdef0"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in atomic.leftovers(tmp_path / "a*")] == names[:1]
    assert atomic.leftovers(tmp_path / "none" / "a") == []
