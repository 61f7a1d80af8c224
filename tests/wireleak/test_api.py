"""`import wireleak`: light, typed, and enough to run a study, read its results and look into its captures."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wireleak

ROOT = Path(wireleak.__file__).parents[1]
STUDY = {
    "name": "small",
    "description": "Does the API run a study?",
    "data": {"name": "digits", "clients": 2, "train": 60, "evaluation": 30, "attacker": 60, "victims": 20},
    "model": {"name": "strided28"},
    "system": {"rounds": 1, "epochs": 1},
    "serve": {"attacker_batch": 30},
    "variants": [{"name": "wide", "cut": 1}],
    "attacks": [{"name": "attributes", "targets": ["slant"], "untrained": "never"}],
}


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys; old = set(sys.modules); import wireleak; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["wireleak"]


def test_each_name_is_there_for_dir_and_for_type_checkers() -> None:
    stub = ast.parse((ROOT / "wireleak/__init__.pyi").read_text())
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"{module}.{name}" for name, module in vars(wireleak)["_PLACES"].items()}
    names = vars(wireleak)["__all__"]
    assert dir(wireleak) == sorted(names)
    assert all(getattr(wireleak, name) is not None for name in names)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="no attribute 'observation'; did you mean 'observations'"):
        # The mistake is the test.
        wireleak.observation  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("party", ["client", "server", "adversary"])
def test_no_party_uses_the_public_face(party: str) -> None:
    """It would hand a party the lab, or another party."""
    for path in (ROOT / party).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "wireleak":
                assert {alias.name for alias in node.names} <= {"common", "__version__"}, path
            if isinstance(node, ast.Import):
                assert "wireleak" not in {alias.name for alias in node.names}, path


def test_a_study_runs_and_its_results_and_captures_are_read(tmp_path: Path) -> None:
    folder = wireleak.run(STUDY, out=tmp_path, quiet=True)
    assert (tmp_path / "small.toml").is_file() and (folder / "report.html").is_file()

    results = wireleak.read_results(folder)
    frame = results.frame()
    own = frame[(frame.role == "attack") & (frame.measure == "balanced-accuracy")]
    assert results.study == "small" and len(frame) == len(results.rows)
    assert own.target.tolist() == ["slant"] and own.value.between(0, 1).all()

    capture = folder / "wide-seed0" / "tap" / "serve-victim.pcap"
    kinds = [one.kind for one in wireleak.observations([capture])]
    assert kinds.count(wireleak.Kind.ACTIVATION) == kinds.count(wireleak.Kind.PREDICTION) == 20
    assert wireleak.inspect([capture])["kinds"]["activation"] == 20


def test_a_mistake_in_a_study_s_tables_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^study: small.toml: variants\[0\].cutt: no key called 'cutt'; did you mean 'cut'\?$"
    ):
        wireleak.run(STUDY | {"variants": [{"name": "wide", "cutt": 1}]}, out=tmp_path, quiet=True)


def test_without_pandas_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from wireleak.lab.run.results import Results

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r"pandas: is not installed; run pip install pandas, or use \.rows"):
        Results(study="small", created="", command="").frame()
