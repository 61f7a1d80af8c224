import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wireleak.common.registry import Listed, Registry

SOURCE = """
from wireleak.common.registry import Registry

SHAPES = Registry("shape", "wireleak.shapes", "shapes")

def register(shape):
    SHAPES.add(shape.name, shape, shape)
    return shape

SHAPES._adopt = register
"""
CIRCLE = '''
"""Module of a shape."""
from drawing import register

@register
class Circle:
    """Draw a circle.

    As Euclid did.
    """

    name = "circle"
'''


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry whose package `shapes` holds a circle, in a folder of its own, and a helper."""
    (tmp_path / "drawing.py").write_text(SOURCE)
    (tmp_path / "shapes" / "round").mkdir(parents=True)
    (tmp_path / "shapes" / "__init__.py").touch()
    (tmp_path / "shapes" / "helper.py").touch()
    (tmp_path / "shapes" / "round" / "__init__.py").touch()
    (tmp_path / "shapes" / "round" / "circle.py").write_text(CIRCLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("drawing", "shapes", "shapes.helper", "shapes.round", "shapes.round.circle"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from drawing import SHAPES

    return SHAPES


SHAPE = """
from abc import ABC, abstractmethod

class Shape(ABC):
    @abstractmethod
    def draw(self, pen): ...

"""
SQUARE = 'class Square:\n    """Draw a square."""\n    name = "square"\n'


def test_every_module_of_its_packages_is_imported_at_the_first_question(shapes: Any) -> None:
    assert "shapes" not in sys.modules
    assert list(shapes.all()) == ["circle"] and shapes.get("circle").__name__ == "Circle"
    assert shapes.listed() == [Listed("circle", "Draw a circle.", "shapes")]


def test_a_question_for_one_name_imports_its_module_only(shapes: Any) -> None:
    assert shapes.get("circle").__name__ == "Circle" and "shapes.helper" not in sys.modules
    assert list(shapes.all()) == ["circle"] and "shapes.helper" in sys.modules


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all(shapes: Any, installed: Any) -> None:
    with pytest.raises(ValueError, match=r"^shape: no shape called 'cube'; choose one of circle$"):
        shapes.get("cube")
    installed(shapes, SQUARE, square="outside:Square")
    hint = r"^study\.shape: no shape called 'Sqare'; did you mean 'square'\? Choose one of circle, square$"
    with pytest.raises(ValueError, match=hint):
        shapes.get("Sqare", "study.shape")


@pytest.mark.parametrize("before", ["", "from drawing import register\n@register\n"])
def test_an_entry_point_adds_a_class_with_or_without_the_decorator(shapes: Any, installed: Any, before: str) -> None:
    installed(shapes, before + SQUARE, square="outside:Square")
    assert shapes.get("square").name == "square"
    assert Listed("square", "Draw a square.", "outside") in shapes.listed()


def test_an_entry_point_may_name_the_module_of_several(shapes: Any, installed: Any) -> None:
    two = "\n".join("@register\n" + SQUARE.replace("quare", end) for end in ("quare", "tar"))
    installed(shapes, f"from drawing import register\n{two}", square="outside")
    assert list(shapes.all()) == ["circle", "square", "star"]
    assert {one.source for one in shapes.listed()} == {"shapes", "outside"}


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (SQUARE, "outside:Absent", "AttributeError: "),
        (SQUARE, "nowhere:Square", "ModuleNotFoundError: No module named 'nowhere'"),
        (SQUARE, "outside", "it registers no shape called 'square'"),
        (SQUARE.replace('"square"', '"circle"'), "outside:Square", "'circle' is registered twice"),
        ("raise RuntimeError('two\\nlines')", "outside", "RuntimeError: two lines"),
        ("import sys; sys.exit('no licence')", "outside:Square", "SystemExit: no licence"),
        ("class Square(:", "outside:Square", "SyntaxError: "),
        (SQUARE.replace('"square"', "4"), "outside:Square", "4 is not a name; give a text"),
        (SQUARE, "outside:Square of mine", "outside:Square of mine: "),
        (f"from drawing import register\n@register\n{SQUARE}raise OSError('late')", "outside", "OSError: late"),
        (f"{SQUARE.replace('Square:', 'Square(Shape):')}    def draw(self): ...\n", "outside:Square", "(self, pen)"),
        (SQUARE.replace("Square:", "Square(Shape):"), "outside:Square", "does not define 'draw'"),
    ],
)
def test_one_that_cannot_be_loaded_costs_itself_only(
    shapes: Any, installed: Any, source: Any, target: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(shapes, f"print('hello')\n{SHAPE if 'Shape' in source else ''}{source}", square=target)
    assert list(shapes.all()) == ["circle"] and shapes.get("circle").__module__ == "shapes.round.circle"
    with pytest.raises(ValueError, match=r"^shape: shape 'square' of outside cannot be loaded: ") as error:
        shapes.get("square")
    assert reason in str(error.value) and "\n" not in str(error.value)
    (broken,) = [one for one in shapes.listed() if one.error]
    assert (broken.name, broken.source) == ("square", "outside") and reason in broken.error
    # It is named once, in one line, and whatever it prints is no part of an answer.
    printed = capsys.readouterr()
    named = [line for line in printed.err.splitlines() if line != "hello"]
    assert printed.out == "" and named == [
        f"shape 'square' of outside is left out, it cannot be loaded: {broken.error}"
    ]


def test_a_name_belongs_to_one_piece_of_code() -> None:
    shapes: Registry[int] = Registry("shape", "wireleak.no-shapes", error=LookupError)
    shapes.add("one", 1, Registry)
    shapes.add("one", 2, Registry)  # the same code again, such as a module that is loaded anew
    assert shapes.all() == {"one": 2} and shapes.listed()[0].source == "wireleak"
    with pytest.raises(LookupError, match=r"^shape: 'one' is registered twice, by wireleak\.common\.registry and "):
        shapes.add("one", 3, Listed)


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, wireleak.common.registry; print({'numpy', 'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
