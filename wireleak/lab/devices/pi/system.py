"""Build an emulated Pi's system from Debian's packages and from wheels, once, and keep it in the user's cache."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wireleak.common.files import write_json
from wireleak.lab.devices.pi.boards import Board
from wireleak.lab.devices.pi.initramfs import initramfs
from wireleak.lab.devices.pi.machine import EMULATOR, Image, Machine, PiError
from wireleak.lab.devices.pi.recipe import GUEST, PLATFORMS, Recipe
from wireleak.lab.launch.processes import Launcher, LaunchError, Process

# An emulated processor compiles torch and Flower in minutes, and a busy host takes several times as long.
_DOWNLOAD_SECONDS, _FIRST_START_SECONDS = 900.0, 2400.0
# Programs, and the Debian packages that hold them.
_BUILDERS = {EMULATOR: "qemu-system-arm", "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs"}
# The user's programs need none of this.
_LEFT_OUT = ("dev/", "usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/zoneinfo/", "usr/share/info/")


def cache() -> Path:
    """Return the folder of built systems."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "wireleak" / "pi"


def missing(recipe: Recipe) -> str | None:
    """Name the first missing program to build or boot a system, and the fix, in one line; None if all are there."""
    needed = {EMULATOR: _BUILDERS[EMULATOR]} if is_built(recipe) else _BUILDERS
    for program, package in needed.items():
        if _found(program) is None:
            return f"{program}: is not installed; run make deps-system, or install Debian's {package}"
    return None


def _found(program: str) -> str | None:
    # A user's path may lack the folders of the programs that make file systems.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def is_built(recipe: Recipe) -> bool:
    """Whether the system is in the cache."""
    return (cache() / recipe.hash).is_dir()


def build_seconds(recipe: Recipe) -> float:
    """Return how long the cached system took to build."""
    return float(json.loads((cache() / recipe.hash / "built.json").read_text())["seconds"])


def built(recipe: Recipe, launcher: Launcher, say: Callable[[str], None]) -> Image:
    """Return a system from the cache; build it first if it is not there.

    Parameters
    ----------
    recipe : Recipe
    launcher : Launcher
        Starts the builders.
    say : callable
        Called with each step in a few words.

    Raises
    ------
    PiError
        A program is missing, a download failed, or the system does not start.
    """
    kept = cache() / recipe.hash
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _alone(kept.with_suffix(".lock"), say):
            if kept.is_dir():
                return Image(kept)
            if (problem := missing(recipe)) is not None:
                raise PiError(problem)
            with tempfile.TemporaryDirectory(dir=kept.parent, prefix="building-") as scratch:
                logs = kept.with_suffix(".logs")
                _build(recipe, launcher, say, Path(scratch), logs).folder.rename(kept)
    except OSError as error:
        raise PiError(
            f"{recipe.name}: cannot write {kept}: {error.strerror}; free space or set XDG_CACHE_HOME"
        ) from error
    return Image(kept)


@contextmanager
def _alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock, so that two runs do not build one system at the same time."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting until the system is built")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, launcher: Launcher, say: Callable[[str], None], scratch: Path, logs: Path) -> Image:
    began = time.monotonic()
    say(f"downloading {recipe.name}")
    _download(recipe, launcher, scratch, logs)
    root, image = scratch / "root", Image(scratch / "image")
    image.folder.mkdir()
    say(f"packing {recipe.name}")
    _unpack(scratch / "root.tar", root)
    (scratch / "python").rename(root / "opt/python")
    shutil.copy(GUEST / "start.sh", root / "opt/start.sh")
    kernel = next((root / "boot").glob("vmlinuz-*"))
    shutil.move(kernel, image.kernel)
    image.initramfs.write_bytes(initramfs(root, recipe.modules))
    for link, target in recipe.links:
        (root / link).symlink_to(target)
    for pattern in ("boot", "usr/lib/modules", *recipe.unused):
        for unused in root.glob(pattern):
            shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
    command = [str(_found("mkfs.ext4")), "-q", "-d", str(root), "-E", "root_owner=0:0"]
    command += [str(image.disk), f"{recipe.disk}M"]
    _finish(launcher, launcher.start("mkfs.ext4", command, logs / "mkfs.log", essential=False))
    say(f"first start of {recipe.name}")
    first = Machine(
        image, Board("", recipe.cpu), scratch / "first", logs / "first-start.log", memory=recipe.memory, keep=True
    )
    script = f"exec python3 -c 'import {', '.join(recipe.imports)}'"
    first.start(launcher, "the first start", {"run": script.encode()}).finish(_FIRST_START_SECONDS)
    write_json(image.folder / "built.json", {"recipe": recipe.name, "seconds": time.monotonic() - began})
    return image


def _download(recipe: Recipe, launcher: Launcher, scratch: Path, logs: Path) -> None:
    """Get Debian's packages as one tar, and the wheels as a folder, side by side."""
    # The user need not be root: `mmdebstrap` then unpacks in a user namespace.
    debian = ["mmdebstrap", "--variant=extract", "--arch=arm64", f"--include={','.join(recipe.packages)}"]
    wheels = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    wheels += ["--no-compile", "--only-binary=:all:", f"--python-version={recipe.python}"]
    wheels += [f"--platform={platform}_aarch64" for platform in PLATFORMS]
    began = [
        launcher.start(name, command, logs / f"{name}.log", essential=False)
        for name, command in (
            ("mmdebstrap", [*debian, recipe.suite, str(scratch / "root.tar"), recipe.mirror]),
            ("pip", [*wheels, f"--target={scratch / 'python'}", *recipe.wheels]),
        )
    ]
    for process in began:
        _finish(launcher, process)


def _finish(launcher: Launcher, process: Process) -> None:
    try:
        launcher.finish(process, _DOWNLOAD_SECONDS)
    except LaunchError as error:
        raise PiError(f"the Raspberry Pi's system cannot be built: {error}; see {process.log}", process.log) from error


def _unpack(packed: Path, root: Path) -> None:
    with tarfile.open(packed) as archive:
        for entry in archive:
            entry.name = entry.name.removeprefix("./")
            if not entry.isdev() and not entry.name.startswith(_LEFT_OUT):
                archive.extract(entry, root, filter="fully_trusted")
    for name in ("dev", "proc", "sys", "root", "opt", "run", "tmp"):
        (root / name).mkdir(exist_ok=True)
    # Only the package base-files, which nothing here needs, makes these links.
    for name in ("bin", "sbin", "lib"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
