import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wireleak.lab.launch.endings import telling_line
from wireleak.lab.launch.processes import Launcher, LaunchError

# Ignores SIGINT, and has a child in its group and one that left it.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
children = [subprocess.Popen(["sleep", "300"], start_new_session=new) for new in (False, True)]
open(sys.argv[1], "w").write(" ".join(str(pid) for pid in [os.getpid(), *(c.pid for c in children)]) + " ")
time.sleep(300)
"""
WRITES_ITS_END = """
import sys, time
try:
    open(sys.argv[1] + ".up", "w").close()
    time.sleep(300)
finally:
    open(sys.argv[2], "a").write(sys.argv[1].split("/")[-1] + " ")
"""


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of modules that processes import by name: nothing is imported from a working folder."""
    folder = tmp_path_factory.mktemp("programs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        yield folder


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[Launcher]:
    with Launcher(log=tmp_path_factory.mktemp("zygote") / "zygote.log") as launcher:
        launcher.wait_until(lambda: launcher.preload, 120, "preload")
        yield launcher


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Launcher]:
    with Launcher(preload=False, log=tmp_path / "zygote.log") as launcher:
        yield launcher


@pytest.fixture(params=["forking", "plain"])
def launcher(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def program(programs: Path) -> Any:
    def write(name: Any, code: Any) -> Any:
        # A name of its own, lest the compiled file of an earlier test is taken for it.
        name = f"{name}_{len(list(programs.glob('*.py')))}"
        (programs / f"{name}.py").write_text(textwrap.dedent(code))
        return ["-m", name]

    return write


def wait_for(condition: Any, seconds: Any = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def pids(*files: Any) -> Any:
    wait_for(lambda: all(file.exists() and file.read_text().endswith(" ") for file in files))
    return [int(pid) for file in files for pid in file.read_text().split()]


def alive(numbers: Any) -> Any:
    running = []
    for pid in numbers:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
    return running


def test_a_module_sees_its_arguments_environment_and_folder(
    launcher: Any, program: Any, programs: Path, tmp_path: Path
) -> None:
    code = """
    import json, os, sys
    if __name__ == "__main__":
        print(json.dumps([sys.argv, os.environ["COLOUR"], os.getcwd(), os.getpid(), os.getsid(0)]))
        sys.exit(7)
    """
    argv = [*program("shows", code), "one", "two words"]
    process = launcher.start("shows", argv, tmp_path / "out.log", {"COLOUR": "green"}, tmp_path)
    assert process.wait(20) == 7
    arguments, colour, folder, pid, session = json.loads(process.log.read_text())
    assert arguments == [str(programs / f"{argv[1]}.py"), "one", "two words"]
    assert (colour, folder) == ("green", str(tmp_path))
    assert pid == process.pid == session
    assert process.cpu_seconds > 0
    assert process.peak_bytes > 1 << 20


def test_a_child_reaches_loopback_without_a_proxy(
    plain: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    plain.finish(plain.start("names", ["printenv", "no_proxy", "NO_PROXY"], tmp_path / "log"), 20)
    assert (tmp_path / "log").read_text().split() == ["intranet.example,localhost,127.0.0.1,::1"] * 2


def test_an_entry_point_and_a_program_run(launcher: Any, tmp_path: Path) -> None:
    entry = launcher.start("entry", ["json.tool:main", "--help"], tmp_path / "entry.log")
    echo = launcher.start("echo", ["echo", "a:b"], tmp_path / "echo.log")
    assert (entry.wait(20), echo.wait(20)) == (0, 0)
    assert "usage" in entry.log.read_text()
    assert echo.log.read_text() == "a:b\n"


def test_what_cannot_start_is_reported_by_name(launcher: Any, tmp_path: Path) -> None:
    program = launcher.start("prober", ["no-such-program"], tmp_path / "a.log", essential=False)
    log = launcher.start("logger", ["true"], Path("/proc/none.log"), essential=False)
    folder = launcher.start("walker", ["true"], tmp_path / "c.log", cwd=tmp_path / "nowhere", essential=False)
    for process, words in ((program, "no-such-program"), (log, "/proc/none.log"), (folder, "nowhere")):
        assert process.wait(20) == 127
        assert process.name in process.describe_end()
        assert words in process.describe_end()


def test_the_fork_server_has_one_thread_and_children_skip_the_imports(
    forking: Launcher, program: Any, tmp_path: Path
) -> None:
    assert forking.preload["threads"] == 1
    loads = program("loads", "import torch._dynamo, flwr.superlink.main; print(torch.get_num_threads())")
    process = forking.start("loads", loads, tmp_path / "loads.log", cwd=tmp_path)
    assert process.wait(20) == 0
    assert process.log.read_text() == "1\n"
    # Importing them takes about 4.
    assert process.cpu_seconds < 1


def test_forks_do_not_share_random_numbers(forking: Launcher, program: Any, tmp_path: Path) -> None:
    code = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    argv = program("draws", code)
    processes = [forking.start("draws", argv, tmp_path / f"{i}.log", cwd=tmp_path) for i in range(2)]
    assert [process.wait(20) for process in processes] == [0, 0]
    first, second = (process.log.read_text().split() for process in processes)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_setting_that_flower_reads_at_import_reaches_the_child(
    forking: Launcher, program: Any, tmp_path: Path
) -> None:
    code = "import flwr.supercore.telemetry as t; print(t.FLWR_TELEMETRY_ENABLED)"
    argv = program("telemetry", code)
    ours = forking.start("off", argv, tmp_path / "off.log", cwd=tmp_path)
    other = forking.start("other", argv, tmp_path / "other.log", {"FLWR_TELEMETRY_ENABLED": "2"}, tmp_path)
    assert (ours.wait(30), other.wait(30)) == (0, 0)
    assert (ours.log.read_text(), other.log.read_text()) == ("0\n", "2\n")


def test_check_names_an_essential_process_that_died(plain: Launcher, tmp_path: Path) -> None:
    client = plain.start("client-0", ["sleep", "300"], tmp_path / "c.log", lasting=True, essential=False)
    job = plain.start("job", ["true"], tmp_path / "j.log")
    tap = plain.start("tap", ["sh", "-c", "echo recording; exec sleep 300"], tmp_path / "t.log", lasting=True)
    job.wait(10)
    client.send_signal(signal.SIGKILL)
    assert client.wait(10) == -signal.SIGKILL
    plain.check()
    wait_for(lambda: tap.log.exists() and tap.log.read_text())
    tap.send_signal(signal.SIGKILL)
    tap.wait(10)
    with pytest.raises(LaunchError, match=r"^tap was killed by SIGKILL: recording$") as error:
        plain.check()
    assert error.value.log == tap.log


def test_a_lasting_process_may_not_end_at_all_and_a_job_only_well(plain: Launcher, tmp_path: Path) -> None:
    head = plain.start("head", ["true"], tmp_path / "h.log", lasting=True)
    head.wait(10)
    with pytest.raises(LaunchError, match="head ended with status 0"):
        plain.check()
    head.essential = False
    job = plain.start("attack", ["sh", "-c", "echo Traceback; echo 'target: no such'; exit 2"], tmp_path / "a.log")
    with pytest.raises(LaunchError, match=r"^attack ended with status 2: target: no such$"):
        plain.finish(job, 10)


def test_waiting_ends_when_a_process_dies(plain: Launcher, tmp_path: Path) -> None:
    tap = plain.start("tap", ["false"], tmp_path / "t.log", lasting=True)
    began = time.monotonic()
    with pytest.raises(LaunchError, match="tap ended with status 1"):
        plain.wait_ready(tap, tmp_path / "ready.json", 30)
    assert time.monotonic() - began < 20


def test_nobody_waits_for_what_is_asked_for_after_the_end(tmp_path: Path) -> None:
    with Launcher(preload=False) as launcher:
        launcher.kill()
        with pytest.raises(LaunchError, match="every process was stopped"):
            launcher.start("late", ["sleep", "0"], tmp_path / "late.log", essential=False)
        began = time.monotonic()
    # What never started is not waited for either.
    assert time.monotonic() - began < 2


def test_a_ready_file_is_read(plain: Launcher, tmp_path: Path) -> None:
    (tmp_path / "ready").write_text('{"address": "127.0.0.1:1"}')
    listen = f"sleep .2; mv {tmp_path}/ready {tmp_path}/ready.json; exec sleep 300"
    head = plain.start("head", ["sh", "-c", listen], tmp_path / "h.log", lasting=True)
    assert plain.wait_ready(head, tmp_path / "ready.json", 10) == {"address": "127.0.0.1:1"}
    with pytest.raises(LaunchError, match=r"head: the start took longer than 0\.1 s"):
        plain.wait_ready(head, tmp_path / "other.json", 0.1)


def test_a_process_that_makes_progress_may_take_longer_than_the_timeout(plain: Launcher, tmp_path: Path) -> None:
    history = tmp_path / "history"
    busy = ["sh", "-c", f"for round in 1 2 3 4 5 6 7 8; do echo $round > {history}; sleep .4; done; exec sleep $0"]
    plain.finish(plain.start("brief", [*busy, "0"], tmp_path / "b.log"), 2, history)
    stuck = plain.start("stuck", [*busy, "300"], tmp_path / "s.log")
    with pytest.raises(LaunchError, match=r"stuck made no progress; raise system\.timeout from 2 s"):
        plain.finish(stuck, 2, history)
    assert history.read_text() == "8\n"


def test_stopping_interrupts_and_then_kills_everything_that_is_left(
    launcher: Any, program: Any, tmp_path: Path
) -> None:
    argv = program("stubborn", STUBBORN)
    process = launcher.start("stubborn", [*argv, str(tmp_path / "pids")], tmp_path / "s.log", None, tmp_path)
    numbers = pids(tmp_path / "pids")
    assert len(alive(numbers)) == 3
    began = time.monotonic()
    assert process.stop(grace=0.5) == -signal.SIGKILL
    assert 0.4 < time.monotonic() - began < 10
    wait_for(lambda: not alive(numbers), 2)
    assert not process.failed


def test_an_orderly_process_ends_by_itself_and_fast(launcher: Any, program: Any, tmp_path: Path) -> None:
    argv = program("orderly", WRITES_ITS_END)
    end = tmp_path / "end"
    process = launcher.start("orderly", [*argv, str(tmp_path / "x"), str(end)], tmp_path / "o.log", None, tmp_path)
    wait_for((tmp_path / "x.up").exists)
    began = time.monotonic()
    assert process.stop(grace=30) == -signal.SIGINT
    assert time.monotonic() - began < 20
    assert end.read_text() == "x "


def test_a_process_stopped_before_it_started_has_ended(launcher: Any, tmp_path: Path) -> None:
    process = launcher.start("late", ["sleep", "300"], tmp_path / "late.log", lasting=True)
    began = time.monotonic()
    assert process.stop(grace=30) == -signal.SIGINT
    assert time.monotonic() - began < 20
    assert not process.failed


LAB = """
import sys, time
from pathlib import Path
from wireleak.lab.launch.processes import Launcher
folder = Path({folder!r})
with Launcher(preload=False) as launcher:
    for name in {names!r}:
        launcher.start(name, [*{argv!r}, str(folder / name), str(folder / "end")], folder / "log", cwd=folder)
    (folder / "zygote").write_text(str(launcher._zygote.pid))
    time.sleep(300)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    started = []

    def start(argv: Any, names: Any) -> subprocess.Popen[bytes]:
        script = LAB.format(folder=str(tmp_path), names=names, argv=argv)
        started.append(subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("victim", ["lab", "zygote"])
def test_nothing_outlives_a_sigkill(victim: str, lab: Any, program: Any, tmp_path: Path) -> None:
    process = lab(program("stubborn", STUBBORN), ["a", "b"])
    numbers = pids(tmp_path / "a", tmp_path / "b")
    assert len(alive(numbers)) == 6
    zygote = int((tmp_path / "zygote").read_text())
    if victim == "zygote":
        # Then only the kernel is left to end the children; a grandchild must look after itself.
        numbers = [numbers[0], numbers[3]]
        orphans = [pid for pid in pids(tmp_path / "a", tmp_path / "b") if pid not in numbers]
        os.kill(zygote, signal.SIGKILL)
    else:
        orphans = []
        process.kill()
    try:
        wait_for(lambda: not alive(numbers), 5)
        if victim == "lab":
            wait_for(lambda: not alive([zygote]), 5)
    finally:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)


def test_ctrl_c_stops_in_order_the_last_started_first(lab: Any, program: Any, tmp_path: Path) -> None:
    process = lab(program("orderly", WRITES_ITS_END), ["a", "b", "c"])
    wait_for(lambda: all((tmp_path / f"{name}.up").exists() for name in "abc"))
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=10)[1]
    assert (tmp_path / "end").read_text() == "c b a "


def test_a_second_ctrl_c_kills(lab: Any, program: Any, tmp_path: Path) -> None:
    process = lab(program("stubborn", STUBBORN), ["a", "b"])
    numbers = pids(tmp_path / "a", tmp_path / "b")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    # Patience alone would take 3 s for each of the two.
    assert time.monotonic() - began < 6
    assert not alive(numbers)


@pytest.mark.parametrize(
    ("text", "exceptions", "line"),
    [
        ("", True, ""),
        ("one\n\ntwo\n\n", True, "two"),
        ("  File x\nValueError: bad\n\x1b[91mERROR\x1b[0m: Exit Code: 201\n\nFor more, x\n", True, "ValueError: bad"),
        ("ValueError: old\nmodel.cut: must be 1 to 4\n", False, "model.cut: must be 1 to 4"),
        ("grpc.RpcError: deadline\n", True, "grpc.RpcError: deadline"),
        ("INFO: fine\nport 80 is taken\nINFO: Shutting down\n", True, "port 80 is taken"),
    ],
)
def test_the_telling_line(text: str, exceptions: bool, line: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    assert telling_line(tmp_path / "log", exceptions=exceptions) == line


def test_a_log_that_is_missing_tells_nothing(tmp_path: Path) -> None:
    assert telling_line(tmp_path / f"{random.random()}") == ""
