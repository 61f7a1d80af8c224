"""A jail of a process: what it may read, write and reach, enforced by the kernel and without privileges.

Files and TCP ports are limited by Landlock, and sockets as a whole by seccomp. Both last for the life of the process
and of its children, and neither can be taken back.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[3]
_GROUP = "wireleak."
# Landlock knows TCP ports from this version on.
_PORTS_SINCE = 4
# What an interpreter and its libraries read; of /proc nothing about other processes.
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/nix/store", "/sys/devices/system", "/sys/fs/cgroup")
_PROC = ("self", "cpuinfo", "meminfo", "stat", "filesystems", "sys/vm", "sys/kernel", "driver/nvidia")
_DEVICES = [Path("/dev", name) for name in ("null", "zero", "random", "urandom", "nvidiactl", "nvidia0", "nvidia-uvm")]


@dataclass(frozen=True)
class Jail:
    """What a process may read, write and reach, in addition to the interpreter and public code.

    Parameters
    ----------
    read : tuple of Path
        Files and folders that it may read. Missing ones are left out.
    write : tuple of Path
        Folders in which it may read, write and remove files, and files that exist; missing folders are made. The first
        one is a folder.
    connect, listen : tuple of int
        TCP ports to which it may connect, and on which it may listen; 0 is any free port for listening.
    sockets : bool
        Whether it may open sockets at all.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    connect: tuple[int, ...] = ()
    listen: tuple[int, ...] = ()
    sockets: bool = False

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Make one from the result of `as_json`."""
        read, write = (tuple(map(Path, value[name])) for name in ("read", "write"))
        return cls(read, write, tuple(value["connect"]), tuple(value["listen"]), value["sockets"])

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, with absolute paths."""
        paths = {name: [str(path.absolute()) for path in getattr(self, name)] for name in ("read", "write")}
        return {**paths, "connect": list(self.connect), "listen": list(self.listen), "sockets": self.sockets}

    def __or__(self, other: Jail) -> Jail:
        """Return a jail for a process that starts both; its temporary files are those of the first."""
        lists = ("read", "write", "connect", "listen")
        joined = {name: tuple(dict.fromkeys(getattr(self, name) + getattr(other, name))) for name in lists}
        return Jail(**joined, sockets=self.sockets or other.sockets)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process in this jail needs."""
        return {} if (folder := self.temporary) is None else {"TMPDIR": str(folder)}

    @property
    def temporary(self) -> Path | None:
        """Folder for its temporary files, in the first that it may write; whoever starts it removes it in the end."""
        return self.write[0].absolute() / "tmp" if self.write else None

    def enter(self) -> None:
        """Put this process into the jail, for good; does as much as the kernel can, see `gap`.

        Call it while the process has one thread: others would stay outside.

        Raises
        ------
        OSError
            The kernel refused a rule that it should know.
        """
        for folder in (*self.write, *filter(None, [self.temporary])):
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
        # The temporary folder that was found before the fork may lie outside.
        tempfile.tempdir = None
        if _version() > 0:
            self._limit_files()
        if not self.sockets:
            _refuse_sockets()

    def _limit_files(self) -> None:
        from py_landlock import AccessFs, AccessNet, Landlock

        folder = AccessFs.READ_FILE | AccessFs.READ_DIR
        rules = Landlock(strict=False)
        for place in readable_code(self.write):
            rules.add_path_rule(place, access=(folder if place.is_dir() else AccessFs.READ_FILE) | AccessFs.EXECUTE)
        # Importing lists the folders of the import path, and a folder with runs may be one of them; so is a network's.
        beside = {place.parent for place in self.read if is_module(place)}
        rules.add_path_rule(*_listed(), *beside, access=AccessFs.READ_DIR)
        devices = [device for device in _DEVICES if device.exists()]
        rules.add_path_rule(*devices, access=AccessFs.READ_FILE | AccessFs.WRITE_FILE)
        for place in self.read:
            if place.exists():
                rules.add_path_rule(place, access=folder if place.is_dir() else AccessFs.READ_FILE)
        rules.allow_read_write(*(place for place in self.write if place.is_dir()))
        files = [place for place in self.write if not place.is_dir()]
        rules.add_path_rule(*files, access=AccessFs.READ_FILE | AccessFs.WRITE_FILE | AccessFs.TRUNCATE)
        for ports, access in ((self.connect, AccessNet.CONNECT_TCP), (self.listen, AccessNet.BIND_TCP)):
            rules.add_net_rule(*ports, access=access)
        rules.apply()


def gap() -> str | None:
    """Return one line on what this kernel cannot enforce, or None if it enforces all of a jail."""
    version = _version()
    if version == 0:
        return "this kernel has no Landlock, so processes can read each other's files"
    missing = []
    if version < _PORTS_SINCE:
        missing.append(f"TCP ports are not limited (Landlock {version}, {_PORTS_SINCE} is needed)")
    if not _has_seccomp():
        missing.append("attacks can open sockets (libseccomp is missing)")
    return "; ".join(missing) or None


def readable_code(besides: Iterable[Path] = ()) -> list[Path]:
    """List what a jailed process may read and execute: the system's files, the interpreter, and installed code.

    A folder of the import path that holds one of `besides` (a checkout with runs in it, say) counts only with its own
    modules and packages.
    """
    private = [path.resolve() for path in besides]
    found = [*map(Path, _SYSTEM), *(Path("/proc", name).resolve() for name in _PROC)]
    found += [Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))]
    for entry in _import_path():
        if entry.is_dir() and (entry == _ROOT or any(path.is_relative_to(entry) for path in private)):
            found += modules_in(entry)
        else:
            found.append(entry)
    found += _plugins()
    return sorted({path for path in found if path.exists()})


def ports_of(addresses: Iterable[str]) -> tuple[int, ...]:
    """Return the ports of addresses "host:port"."""
    return tuple(sorted({int(address.rpartition(":")[2]) for address in addresses}))


def modules_in(folder: Path) -> list[Path]:
    """List the modules and packages in a folder, but nothing else of it."""
    return [child for child in folder.iterdir() if is_module(child)]


def is_module(path: Path) -> bool:
    """Return whether a path is a Python file or a package."""
    return (path.suffix == ".py" and path.is_file()) or (path / "__init__.py").is_file()


def _listed() -> Sequence[Path]:
    return [entry for entry in _import_path() if entry.is_dir()]


def _import_path() -> list[Path]:
    named = [Path(entry).resolve() for entry in sys.path if entry and Path(entry).is_absolute()]
    return [*dict.fromkeys([_ROOT, *named])]


@cache
def _plugins() -> tuple[Path, ...]:
    """Return the folders of the packages that announce plug-ins; an editable installation may have them anywhere."""
    found = []
    for group in entry_points().groups:
        for point in entry_points(group=group) if group.startswith(_GROUP) else ():
            found += package_of(point.module)
    return tuple(found)


def package_of(module: str) -> list[Path]:
    """Return the folder or file of the package that holds an installed module; [] if there is none."""
    with contextlib.suppress(ImportError, ValueError):
        if (spec := find_spec(module.partition(".")[0])) is not None:
            return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
    return []


@cache
def _version() -> int:
    """Return the kernel's version of Landlock; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    try:
        from py_landlock import LandlockError, get_abi_version
    except ImportError:
        return 0
    try:
        return int(get_abi_version())
    except (LandlockError, OSError):
        return 0


@cache
def _has_seccomp() -> bool:
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        return False
    return bool(pyseccomp.system_arch())


def _refuse_sockets() -> None:
    """Refuse new sockets, and the interface that can open them in another way."""
    if not _has_seccomp():
        return
    import pyseccomp

    filter_ = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
    for name in ("socket", "io_uring_setup"):
        filter_.add_rule(pyseccomp.ERRNO(errno.EACCES), name)
    filter_.load()
