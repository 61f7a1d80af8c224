"""Every mistake in a command is one line that names it and the fix, and is found before the heavy libraries load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Libraries whose import takes a second or more.
HEAVY = ("torch", "flwr", "sklearn", "pandas", "matplotlib.pyplot", "onnx", "opacus")
NETWORK = str(Path(__file__).parents[3] / "examples" / "audit_model.py")
AUDIT = ["audit", f"{NETWORK}:make", "--data", "digits"]
DEFEND = ["defend", f"{NETWORK}:make", "--data", "digits"]
OWN = ["export", f"{NETWORK}:make", "--cut", "1", "--input-shape", "1,28,28", "--classes", "2"]
# Arguments, and a part of the line that answers them.
MISTAKES: list[tuple[list[str], str]] = [
    (["run", "nosuch"], "study: no study or file called 'nosuch'"),
    (["run", "digit"], "did you mean 'digits'"),
    (["run", "digits", "--data", "."], "'--data': the folder that holds data sets is now --root"),
    (["run", "digits", "--root", "nosuch"], "'--root': no folder nosuch"),
    (["run", "faces", "--root", "."], "fairface: not found in ."),
    (["run", "digits", "--out", f"{NETWORK}/runs"], "'--out': cannot create"),
    (["run", "digits", "--resume", "nosuch"], "--resume: nosuch is not a run's folder"),
    (["run", "digits", "--secret", "nosuch"], "--secret: no file nosuch"),
    (["run", "digits", "--jobs", "x"], "'--jobs': 'x' is not a valid integer"),
    (["run", "bad.toml"], "study: bad.toml: description: is missing"),
    (["audit", "no:such", "--data", "digits"], "model: no module 'no'"),
    (["audit", "nosuch.py:make", "--data", "digits"], "model: no file"),
    (["audit", f"{NETWORK}:mak", "--data", "digits"], "has no factory 'mak'; did you mean 'make'?"),
    (["audit", "broken.py:make", "--data", "digits"], "broken.py cannot be imported: SyntaxError"),
    (["audit", f"{NETWORK}:make", "--data", "digit"], "--data: no data set called 'digit'; did you mean 'digits'?"),
    ([*AUDIT, "--attributes", "slent"], "--attributes: digits: no attribute called 'slent'; did you mean 'slant'?"),
    ([*AUDIT, "--task", "nosuch"], "--task: digits: no attribute called 'nosuch'"),
    ([*AUDIT, "--disjoint-by", "nosuch"], "--disjoint-by: digits: no group called 'nosuch'"),
    ([*AUDIT, "--option", "a=b"], "digits: no option called 'a'"),
    ([*AUDIT, "--option", "a"], "--option: 'a' is not \"name=value\""),
    ([*AUDIT, "--weights", "nosuch"], "--weights: no file"),
    ([*AUDIT, "--resume", "nosuch"], "--resume: nosuch is not the folder of an audit"),
    ([*AUDIT, "--memory", "4"], "--memory: 4 is too little"),
    ([*AUDIT, "--budget", "x"], "--budget: 'x' is not a time"),
    ([*AUDIT, "--cuts", "x"], "--cuts: 'x' is not a list of numbers"),
    ([*AUDIT, "--fail-above", "rid=1"], "--fail-above: no measure called 'rid'; did you mean 'reid'?"),
    ([*DEFEND, "--budget", "x"], "--budget: 'x' is not a share of accuracy"),
    ([*DEFEND, "--protect", "nosuch"], "--protect: no attribute called 'nosuch'"),
    (["defend", "no:such", "--data", "digits"], "model: no module 'no'"),
    (["layers", "nosuch"], "RUN: nosuch holds no study.toml"),
    (["serve", "nosuch"], "RUN: nosuch holds no study.toml"),
    (["serve", "--port", "0"], "'--port': 0 is not in the range"),
    (["export", "nosuch"], "RUN: no folder nosuch"),
    (["export", "nosuch.py:make"], "model: no file"),
    ([*OWN[:2], "--input-shape", "1,28,28", "--classes", "2"], "--cut: is missing"),
    ([*OWN, "--weights", "nosuch"], "--weights: no file nosuch"),
    ([*OWN, "--kind", "imag"], "--kind: no kind of input called 'imag'; did you mean 'image'?"),
    ([*OWN, "--scaling", "1"], "--scaling: '1' holds 1 numbers; give 2"),
    ([*OWN, "--pad", "x"], "--pad: 'x' is not a size"),
    (["power", "nosuch"], "study: no study or file called 'nosuch'"),
    (["power", "digits", "--effect", "ac=1"], "--effect: no measure called 'ac'; did you mean 'auc'?"),
    (["studies", "digit"], "did you mean 'digits'"),
    (["data", "digit"], "data: no data set called 'digit'; did you mean 'digits'?"),
    (["plugins", "attack"], "KIND: no kind of plug-in called 'attack'; did you mean 'attacks'?"),
    (["schema", "stdy"], "schema: no schema called 'stdy'; did you mean 'study'?"),
    (["report", "nosuch"], "nosuch/results.json: cannot be read"),
    (["figures", "nosuch"], "nosuch/results.json: cannot be read"),
    (["attack", "nosuch"], "CAPTURE: no file nosuch"),
    (["attack", NETWORK, "--attack", "invrsion"], "--attack: no attack called 'invrsion'; did you mean 'inversion' or"),
    (["runs", "list", "--in", "nosuch"], "--in: no folder nosuch"),
    (["runs", "rm", "nosuch", "--yes"], "RUN: nosuch is not a run's folder"),
    (["runs", "compare", "nosuch", "other"], "nosuch/results.json: cannot be read"),
    (["pi", "--board", "pi5"], "'--board': 'pi5' is not one of 'pi3', 'pi4'"),
]
# Run all in one process, which a library that one of them imports would also slow down.
PROGRAM = f"""
import contextlib, io, json, sys
from wireleak.cli import start
answers = []
for arguments in json.load(sys.stdin):
    sys.argv = ["wireleak", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = start()
    heavy = [name for name in {HEAVY} if name in sys.modules]
    answers.append([status, out.getvalue(), err.getvalue(), heavy])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give each mistake's status, output, error, and the heavy libraries that were loaded by then."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "broken.py").write_text("def make(:\n")
    (folder / "bad.toml").write_text('name = "bad"\n')
    asked = [arguments for arguments, _ in MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {json.dumps(arguments): answer for arguments, answer in zip(asked, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize(
    ("arguments", "line"), MISTAKES, ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else value
)
def test_a_mistake_is_one_line_before_heavy_libraries_load(
    arguments: list[str], line: str, answers: dict[str, Any]
) -> None:
    status, out, err, heavy = answers[json.dumps(arguments)]
    # A machine that is busy for seconds gets a line of progress.
    assert status == 2 and all(line.startswith("[") for line in out.splitlines())
    assert err.startswith("wireleak: ") and err.count("\n") == 1 and line in err
    assert heavy == []


def test_the_adversary_names_its_attacks_before_heavy_libraries_load() -> None:
    program = f"""
import sys
from adversary.attacks.harness.run import describe
describe()
print([name for name in {(*HEAVY, "grpc", "httpx", "rich", "adversary.tap.decode.read")} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("\n[]\n")
