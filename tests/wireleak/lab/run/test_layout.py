"""Every path of a run's folder is spelt in the modules of the layout, and one module opens the sealed files."""

import ast
from collections.abc import Iterator
from pathlib import Path

from wireleak.lab.run import layout

LAB = Path(layout.__file__).parents[1]
LAYOUT, TRUTH = ("run/layout.py", "run/attack_folder.py", "run/audit_folder.py"), "run/truth.py"
# Properties of the layout that lead to ground truth.
SEALED = {"sealed", "ledger", "trained_on"}


def modules() -> dict[str, ast.Module]:
    return {str(path.relative_to(LAB)): ast.parse(path.read_text()) for path in sorted(LAB.rglob("*.py"))}


def calls(tree: ast.AST, *names: str) -> Iterator[tuple[ast.Call, ast.Attribute]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node, node.func


def spelt(tree: ast.AST) -> Iterator[str]:
    """Parts of paths: the right side of `/`, and the arguments of `with_name` and `glob`."""
    parts = [node.right for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
    parts += [one for call, _ in calls(tree, "with_name", "glob") for one in call.args[:1]]
    yield from (one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str))


def opened(tree: ast.AST) -> list[str]:
    """Names of the sealed paths that are read by `np.load` or `read_bytes`."""
    every = [
        part
        for call, function in calls(tree, "load", "read_bytes")
        for argument in (*call.args, function.value)
        for part in ast.walk(argument)
    ]
    return [part.attr for part in every if isinstance(part, ast.Attribute) and part.attr in SEALED]


def test_a_runs_paths_are_spelt_in_the_layout_only() -> None:
    every = modules()
    names = {part for name in LAYOUT for part in spelt(every.pop(name))}
    assert {"plan.json", "results.json", "sealed", "granted", "checkpoints", "guesses.npz"} <= names
    # Launching knows no cell: it gets a folder, and keeps logs and Flower's own files in it.
    others = {name: tree for name, tree in every.items() if not name.startswith("launch/")}
    assert {(name, part) for name, tree in others.items() for part in spelt(tree) if part in names} == set()


def test_sealed_files_are_opened_by_the_truth_only() -> None:
    every = modules()
    assert opened(every.pop(TRUTH))
    assert {name: found for name, tree in every.items() if (found := opened(tree))} == {}
