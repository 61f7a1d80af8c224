"""An emulated Pi's command line, and a job that goes in and comes out, with a stand-in for the emulator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from wireleak.lab.devices.pi.boards import BOARDS, LINKS, seen_from_guest
from wireleak.lab.devices.pi.machine import EMULATOR, Image, Machine, PiError
from wireleak.lab.devices.pi.recipe import DEVICE
from wireleak.lab.devices.pi.system import built, cache, is_built, missing
from wireleak.lab.launch.processes import Launcher

# It reads the job from the second disk, as the guest does, and packs a folder onto the third.
STAND_IN = f"""#!{sys.executable}
import io, sys, tarfile
disks = [word[5:].split(",")[0] for before, word in zip(sys.argv, sys.argv[1:]) if before == "-drive"]
with tarfile.open(disks[1]) as job:
    files = {{one.name: job.extractfile(one).read().decode() for one in job if one.isfile()}}
print("console of the stand-in", flush=True)
exec(files["run"])
with tarfile.open(disks[2], "w") as result:
    usage = "Maximum resident set size (kbytes): 2048"
    parts = dict(status=status, log=log, times="4.5 10.0", usage=usage, answer=files["netem"])
    for name, text in parts.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        result.addfile(entry, io.BytesIO(text.encode()))
"""


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """Starts a stand-in for the emulator."""
    program = tmp_path / "bin" / EMULATOR
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    with Launcher(preload=False) as launcher:
        yield launcher


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(
        Image(tmp_path / "image"), BOARDS["pi4"], tmp_path / "pi", tmp_path / "logs" / "pi.log", netem=LINKS["wifi"]
    )


def test_the_command_line_has_the_board_the_disks_and_the_card_that_is_recorded(tmp_path: Path) -> None:
    image = Image(tmp_path / "a,b")
    machine = Machine(
        image, BOARDS["pi3"], tmp_path, tmp_path / "log", memory=1024, capture=tmp_path / "tap" / "serve-pi.pcap"
    )
    words = machine.command()
    after = dict(pairwise(words))
    assert words[0] == EMULATOR
    assert (after["-cpu"], after["-m"]) == ("cortex-a53", "1024")
    disks = [word for before, word in pairwise(words) if before == "-drive"]
    assert disks[0] == f"file={tmp_path}/a,,b/disk.img,if=virtio,format=raw,snapshot=on"
    assert disks[1].endswith("job.tar,if=virtio,format=raw,readonly=on")
    assert after["-object"] == f"filter-dump,id=tap,netdev=net,file={tmp_path}/tap/serve-pi.pcap"
    assert "-object" not in Machine(image, BOARDS["pi3"], tmp_path, tmp_path / "log").command()


def test_a_job_goes_in_and_what_it_wrote_comes_out(machine: Machine, launcher: Launcher) -> None:
    run = b"status, log = '0', files['folder/input']"
    (machine.folder / "given").mkdir(parents=True)
    (machine.folder / "given" / "input").write_text("an input")
    outcome = machine.start(launcher, "pi", {"run": run, "folder": machine.folder / "given"}).finish(60)
    assert (outcome.folder / "log").read_text() == "an input"
    assert (outcome.folder / "answer").read_text() == "delay 20ms rate 20mbit loss 1%"
    assert (outcome.boot, outcome.job, outcome.resident) == (4.5, 5.5, 2 << 20)
    assert machine.log.read_text() == "console of the stand-in\n"
    assert sorted(path.name for path in machine.folder.iterdir()) == ["given", "out"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (b"status, log = '137', 'starting'", "pi: the job was killed by SIGKILL.*: starting; its console is .*pi.log"),
        (b"status, log = '2', 'first\\nwrong head'", "pi: the job ended with status 2: wrong head; its console is"),
        (b"sys.exit(0)", "pi: the machine ended without a result; its console is .*pi.log"),
        (b"sys.exit(1)", "pi ended with status 1: console of the stand-in; its console is .*pi.log"),
    ],
)
def test_a_failure_is_one_line_that_names_the_console(
    machine: Machine, launcher: Launcher, run: bytes, message: str
) -> None:
    with pytest.raises(PiError, match=message) as error:
        machine.start(launcher, "pi", {"run": run}).finish(60)
    assert "\n" not in str(error.value)


def test_a_machine_that_hangs_is_ended(machine: Machine, launcher: Launcher) -> None:
    running = machine.start(launcher, "pi", {"run": b"import time; time.sleep(100)"})
    with pytest.raises(PiError, match=r"pi took longer than 0.5 s; its console is"):
        running.finish(0.5)
    assert running.process.poll() is not None


def test_without_the_emulator_one_line_says_what_to_install(
    machine: Machine, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PiError, match=r"qemu-system-aarch64: is not installed; run make deps-system, or .*-arm"):
        machine.start(launcher, "pi", {"run": b""})


def test_a_failed_build_names_its_log_and_leaves_nothing_half_built(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = tmp_path / "bin" / "mmdebstrap"
    program.write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    program.chmod(0o755)
    if missing(DEVICE) is not None:
        pytest.skip(f"cannot build: {missing(DEVICE)}")
    said: list[str] = []
    with pytest.raises(PiError, match=r"the Raspberry Pi's system cannot be built: .*no network; see .*mmdebstrap.log"):
        built(DEVICE, launcher, said.append)
    assert said == ["downloading the Raspberry Pi's system"]
    assert not is_built(DEVICE)
    assert not list(cache().glob("building-*"))


def test_a_head_is_reached_only_on_loopback() -> None:
    assert seen_from_guest("127.0.0.1:9092") == "10.0.2.2:9092"
    with pytest.raises(ValueError, match=r"address: 10.1.1.1:9092 is not on this machine's loopback"):
        seen_from_guest("10.1.1.1:9092")
