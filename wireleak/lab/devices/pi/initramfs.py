"""Write the file system from which an emulated Pi's kernel starts: busybox, a few drivers and the script `init`."""

from __future__ import annotations

import gzip
import lzma
import stat
from collections.abc import Iterable
from pathlib import Path

from wireleak.lab.devices.pi.recipe import GUEST

_FOLDERS = ("bin", "dev", "lib", "proc", "root", "sys")


def initramfs(root: Path, modules: Iterable[str]) -> bytes:
    """Return a compressed initramfs with busybox and drivers of an unpacked system.

    Parameters
    ----------
    root : Path
        The unpacked system; it holds busybox-static and one kernel.
    modules : iterable of str
        Drivers, in the order in which they are loaded. Those that the kernel has built in are left out.
    """
    entries = [_entry(name, b"", stat.S_IFDIR | 0o755) for name in _FOLDERS]
    entries.append(_entry("dev/console", b"", stat.S_IFCHR | 0o600, device=(5, 1)))
    entries.append(_entry("bin/busybox", (root / "usr/bin/busybox").read_bytes(), stat.S_IFREG | 0o755))
    order = []
    for name in modules:
        for file in (root / "usr/lib/modules").rglob(f"{name}.ko*"):
            packed = file.read_bytes()
            driver = lzma.decompress(packed) if file.suffix == ".xz" else packed
            entries.append(_entry(f"lib/{name}.ko", driver, stat.S_IFREG | 0o644))
            order.append(name)
    entries.append(_entry("lib/order", "\n".join(order).encode(), stat.S_IFREG | 0o644))
    entries.append(_entry("init", (GUEST / "init.sh").read_bytes(), stat.S_IFREG | 0o755))
    entries.append(_entry("TRAILER!!!", b"", 0))
    return gzip.compress(b"".join(entries), 6, mtime=0)


def _entry(name: str, content: bytes, mode: int, device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one file in the kernel's format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device, device of the file itself, length of the name, checksum
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
