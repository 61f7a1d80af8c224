"""A process in a jail does what it was granted, and the kernel refuses it everything else."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.launch.jail import Jail, gap, readable_code
from wireleak.lab.launch.processes import Launcher

pytestmark = pytest.mark.skipif(gap() is not None, reason=f"the kernel cannot enforce it: {gap()}")

CHEAT = """
import json, os, socket, subprocess, sys
from pathlib import Path
folder, parent, port, out = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])

def tried(act):
    try:
        act()
    except OSError as error:
        return f"refused: {error.errno}"
    return "done"

def link():
    (out / "link").symlink_to(folder / "sealed" / "truth")
    (out / "link").read_text()

def program():
    subprocess.run(["cat", folder / "sealed" / "truth"], check=True, capture_output=True)

def refused_program():
    try:
        program()
    except subprocess.CalledProcessError as error:
        raise PermissionError(13, "cat") from error

def send():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"truth", ("127.0.0.1", port))

def connect():
    socket.create_connection(("127.0.0.1", port), timeout=5).close()

found = {
    "granted": tried((folder / "granted").read_text),
    "own": tried(lambda: (out / "guess").write_text("1")),
    "sealed": tried((folder / "sealed" / "truth").read_text),
    "other": tried(lambda: (folder / "other").write_text("1")),
    "link": tried(link),
    "hard link": tried(lambda: os.link(folder / "sealed" / "truth", out / "hard")),
    "parent": tried(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
    "root of the parent": tried(Path(f"/proc/{parent}/root{folder}/sealed/truth").read_text),
    "program": tried(refused_program),
    "connect": tried(connect),
    "send": tried(send),
    "signal": tried(lambda: os.kill(int(parent), 0)),
}
import sklearn
found["import"] = sklearn.__name__
(out / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed" / "truth").write_text("secret")
    (tmp_path / "granted").write_text("granted")
    return tmp_path


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def cheat(folder: Path, port: int, **limits: Any) -> dict[str, str]:
    """What the cheating program could do in a jail, as words."""
    jail = Jail((folder / "granted",), (folder / "out",), **limits)
    code = (
        "import json, sys; from wireleak.lab.launch.jail import Jail; "
        "Jail.from_json(json.loads(sys.argv.pop(1))).enter(); exec(sys.argv.pop(1))"
    )
    words = [json.dumps(jail.as_json()), CHEAT, str(folder), str(os.getpid()), str(port), str(folder / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "out" / "found.json").read_text()))


def test_an_attack_reads_what_it_was_granted_and_nothing_else(folder: Path, listening: int) -> None:
    found = cheat(folder, listening)
    allowed = {"granted": "done", "own": "done", "import": "sklearn"}
    assert {name: found.pop(name) for name in allowed} == allowed
    # EPERM, EACCES and, for a hard link out of the jail, EXDEV.
    assert found and set(found.values()) <= {"refused: 1", "refused: 13", "refused: 18"}, found
    # Without a jail the same program does all of it, so the refusals are the kernel's.
    free = subprocess.run(
        [sys.executable, "-c", CHEAT, str(folder), str(os.getpid()), str(listening), str(folder / "out")],
        capture_output=True,
        text=True,
    )
    assert free.returncode == 0, free.stderr
    everything = json.loads((folder / "out" / "found.json").read_text())
    assert {everything[name] for name in ("sealed", "other", "parent", "program", "connect", "send")} == {"done"}


def test_a_party_reaches_only_the_ports_of_its_links(folder: Path, listening: int) -> None:
    assert cheat(folder, listening, sockets=True, connect=(listening,))["connect"] == "done"
    (folder / "out" / "link").unlink()
    assert cheat(folder, listening, sockets=True)["connect"] == "refused: 13"


def test_the_launcher_puts_a_process_into_its_jail(folder: Path, tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, tempfile
        print(open(sys.argv[1]).read())
        with tempfile.NamedTemporaryFile() as scratch:
            print(scratch.name.startswith(sys.argv[3]))
        open(sys.argv[2]).read()
    """)
    jail = Jail((folder / "granted",), (folder / "out",))
    with Launcher(preload=False) as launcher:
        words = ["-c", program, str(folder / "granted"), str(folder / "sealed" / "truth"), str(folder / "out")]
        process = launcher.start("cheat", [sys.executable, *words], folder / "cheat.log", jail=jail)
        assert process.wait(60) == 1
    said = process.log.read_text()
    assert said.startswith("granted\nTrue\n") and "PermissionError" in said, said


def test_code_beside_a_run_is_read_without_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "runs" / "sealed").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = readable_code([tmp_path / "runs" / "own"])
    assert [path for path in found if path.is_relative_to(tmp_path)] == [tmp_path / "module.py", tmp_path / "package"]


def test_jails_travel_as_json() -> None:
    jail = Jail((Path("/granted"),), (Path("/own"),), (4001,), (0,), True)
    assert Jail.from_json(json.loads(json.dumps(jail.as_json()))) == jail
