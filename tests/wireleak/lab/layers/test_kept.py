from pathlib import Path

import pytest

from wireleak.lab.layers.kept import Kept
from wireleak.lab.study.schema import StudyError

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


def test_figures_of_other_options_are_not_mixed_in_nor_lost(tmp_path: Path) -> None:
    path = tmp_path / "layers.partial"
    Kept(path, ASKED, resume=False).add("trained/block-1/slant", FIGURES)
    with pytest.raises(StudyError, match=r"--resume: the interrupted call had permutations 20 \(now 40\); give"):
        Kept(path, ASKED | {"permutations": 40}, resume=True)
    assert Kept(path, ASKED, resume=True).figures == {"trained/block-1/slant": FIGURES}
    path.write_text("[1")
    with pytest.raises(StudyError, match="cannot be read"):
        Kept(path, ASKED, resume=True)


def test_without_resume_it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "layers.partial"
    Kept(path, ASKED, resume=False).add("trained/block-1/slant", FIGURES)
    assert Kept(path, ASKED, resume=False).figures == {}
