"""Boot an emulated Pi for one job: files go in as a tar on a disk, and what the job writes comes back as one."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wireleak.lab.devices.pi.boards import Board
from wireleak.lab.launch.endings import describe_status
from wireleak.lab.launch.processes import Launcher, LaunchError, Process

EMULATOR = "qemu-system-aarch64"
CORES = 2
_RESULT_BYTES = 256 << 20
_TIMES = re.compile(r"[\d.]+ [\d.]+")
_RESIDENT = re.compile(r"Maximum resident set size \(kbytes\): (\d+)")


class PiError(LaunchError):
    """An emulated Pi cannot be built, or failed; the message is one line and names its log."""


@dataclass(frozen=True)
class Image:
    """The folder of a system that can be booted."""

    folder: Path

    @property
    def disk(self) -> Path:
        """Its disk."""
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        """Its kernel."""
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        """The first file system."""
        return self.folder / "initramfs.gz"


@dataclass(frozen=True)
class Outcome:
    """What came back from an emulated Pi.

    Parameters
    ----------
    folder : Path
        What the job wrote into `/run/out`, its output as `log` among it.
    boot, job, seconds : float
        Guest's seconds until the job began, guest's seconds of the job, and the host's seconds of all of it.
    resident : int
        Largest resident memory of a process of the job, in bytes, in the guest.
    emulator : int
        Largest resident memory of the emulator, in bytes, on the host.
    """

    folder: Path
    boot: float
    job: float
    seconds: float
    resident: int
    emulator: int


@dataclass(frozen=True)
class Machine:
    """An emulated Pi that is to run one job.

    Parameters
    ----------
    image : Image
    board : Board
    folder : Path
        Folder for its disks and the job's output.
    log : Path
        File for its console.
    memory : int
        In MiB.
    capture : Path, optional
        Where its network card is recorded, as pcap.
    netem : str
        What the guest's network emulator does to packets; empty for nothing.
    keep : bool
        Keep what the job changes on the system's disk; otherwise it is forgotten.
    """

    image: Image
    board: Board
    folder: Path
    log: Path
    memory: int = 512
    capture: Path | None = None
    netem: str = ""
    keep: bool = False

    def command(self) -> list[str]:
        """Return the emulator's command line."""
        kept = "off" if self.keep else "on"
        words = [EMULATOR, "-machine", "virt", "-cpu", self.board.cpu, "-smp", str(CORES), "-m", str(self.memory)]
        words += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nodefaults"]
        words += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs)]
        words += ["-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init"]
        for path, option in ((self.image.disk, f"snapshot={kept}"), (self._job, "readonly=on"), (self._result, "")):
            # The emulator takes a comma in a path doubled.
            words += ["-drive", ",".join([f"file={_escaped(path)},if=virtio,format=raw", *[option] * bool(option)])]
        words += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
        if self.capture is not None:
            words += ["-object", f"filter-dump,id=tap,netdev=net,file={_escaped(self.capture)}"]
        return words

    def start(self, launcher: Launcher, name: str, files: Mapping[str, Path | bytes]) -> Running:
        """Boot it with a job and return at once.

        Parameters
        ----------
        launcher : Launcher
            Ends it with everything else.
        name : str
            Its name in messages.
        files : mapping
            The job's files or folders by their path in the job's folder; `run` is the script that does the work. What
            it writes into `/run/out` comes back.

        Raises
        ------
        PiError
            The emulator is not installed.
        """
        if shutil.which(EMULATOR) is None:
            raise PiError(f"{EMULATOR}: is not installed; run make deps-system, or install Debian's qemu-system-arm")
        self.folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self._job, "w") as job:
            for path, content in {**files, "netem": self.netem.encode()}.items():
                _add(job, path, content)
        with self._result.open("wb") as result:
            result.truncate(_RESULT_BYTES)
        if self.capture is not None:
            self.capture.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        process = launcher.start(name, self.command(), self.log, essential=False)
        return Running(self, launcher, process, time.monotonic())

    @property
    def _job(self) -> Path:
        return self.folder / "job.tar"

    @property
    def _result(self) -> Path:
        return self.folder / "result.tar"

    @property
    def output(self) -> Path:
        """Folder of what the job wrote."""
        return self.folder / "out"


@dataclass(frozen=True)
class Running:
    """An emulated Pi that was started."""

    machine: Machine
    launcher: Launcher
    process: Process
    began: float

    def finish(self, timeout: float) -> Outcome:
        """Wait until the job has ended and the machine is off.

        Raises
        ------
        PiError
            The job failed, the machine ended without a result, or `timeout` seconds passed.
        """
        name, log = self.process.name, self.machine.log
        try:
            self.launcher.finish(self.process, timeout)
        except LaunchError as error:
            self.launcher.stop([self.process])
            raise PiError(f"{error}; its console is {log}", log) from error
        seconds = time.monotonic() - self.began
        self._unpack()
        output = self.machine.output
        if not (output / "status").is_file():
            raise PiError(f"{name}: the machine ended without a result; its console is {log}", log)
        if status := int((output / "status").read_text()):
            said = (output / "log").read_text(errors="replace").strip().splitlines()
            # A shell adds 128 to the number of the signal that ended its child.
            how = describe_status(128 - status if status > 128 else status)
            raise PiError(f"{name}: the job {how}: {said[-1] if said else 'without output'}; its console is {log}", log)
        ready, ended = map(float, (output / "times").read_text().split())
        resident = _RESIDENT.search((output / "usage").read_text())
        used = 1024 * int(resident[1]) if resident else 0
        return Outcome(output, ready, ended - ready, seconds, used, self.process.peak_bytes)

    def _unpack(self) -> None:
        output, packed = self.machine.output, self.machine._result
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        try:
            with tarfile.open(packed, "r:") as result:
                result.extractall(output, filter="data")
        except tarfile.TarError:
            return  # An empty disk: the machine never got so far.
        finally:
            packed.unlink()
            self.machine._job.unlink()


def _add(job: tarfile.TarFile, path: str, content: Path | bytes) -> None:
    if isinstance(content, Path):
        job.add(content, path, filter=lambda one: None if "__pycache__" in one.name else one)
        return
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    job.addfile(entry, io.BytesIO(content))


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
