import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "cut_any_model.py"


def test_the_cut_layer_has_a_quarter_of_its_rank_and_the_other_all(capsys):
    runpy.run_path(str(SCRIPT), run_name="__main__")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "ranks of wi after the cut: [8, 2]"
    assert float(second.rsplit(" ", 1)[1]) > 0.01
