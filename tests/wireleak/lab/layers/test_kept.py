from pathlib import Path

from wireleak.lab.layers.kept import Kept

ASKED = {"variant": "wide", "permutations": 20}
FIGURES = [{"value": 0.5, "p": None}]


def test_an_interrupted_call_goes_on_with_what_it_kept(tmp_path: Path) -> None:
    path = tmp_path / "layers.partial"
    first = Kept(path, ASKED, resume=False)
    first.add("trained/block-1/slant", FIGURES)
    with path.open("a") as file:
        file.write('{"trained/block-2/sl')  # killed while it wrote
    assert Kept(path, ASKED, resume=True).figures == {"trained/block-1/slant": FIGURES}
    again = Kept(path, ASKED, resume=True)
    again.add("trained/block-2/slant", FIGURES)
    assert list(Kept(path, ASKED, resume=True).figures) == ["trained/block-1/slant", "trained/block-2/slant"]
    again.end()
    assert not path.exists()


def test_figures_of_other_options_or_without_resume_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "layers.partial"
    Kept(path, ASKED, resume=False).add("trained/block-1/slant", FIGURES)
    assert Kept(path, ASKED | {"permutations": 40}, resume=True).figures == {}
    Kept(path, ASKED, resume=False).add("trained/block-1/slant", FIGURES)
    assert Kept(path, ASKED, resume=False).figures == {}
