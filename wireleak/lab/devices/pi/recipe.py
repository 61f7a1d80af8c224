"""The contents of an emulated Pi's system, and the hash under which it is cached."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

# The guest's own scripts: `init` mounts the system, `start` runs one job and switches the machine off.
GUEST = Path(__file__).parent / "guest"
# In the order in which the kernel must get them.
MODULES = ("virtio_blk", "failover", "net_failover", "virtio_net", "sch_netem")
# Raise it when the code that builds a system makes another one of the same recipe.
_BUILDER = 1
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014", "manylinux_2_17")


@dataclass(frozen=True)
class Recipe:
    """A system.

    Parameters
    ----------
    name : str
        Its name in messages.
    packages : tuple of str
        Debian packages, with their dependencies.
    wheels : tuple of str
        Exact versions of Python packages, without their dependencies.
    imports : tuple of str
        Modules that the first boot imports: that compiles them, so later starts are quick, and shows that they work.
    disk : int
        Size of its disk in MiB.
    memory : int
        Memory of the first boot in MiB.
    cpu : str
        CPU of the first boot.
    """

    name: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    imports: tuple[str, ...]
    disk: int = 700
    memory: int = 512
    cpu: str = "cortex-a53"
    suite: str = "trixie"
    mirror: str = "http://deb.debian.org/debian"
    python: str = "3.13"
    modules: tuple[str, ...] = MODULES

    @property
    def hash(self) -> str:
        """A hash of all that decides what is built."""
        scripts = [file.read_text() for file in sorted(GUEST.iterdir()) if file.suffix == ".sh"]
        content = json.dumps([_BUILDER, asdict(self), scripts, PLATFORMS], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


_BASE = ("python3", "libstdc++6", "busybox-static", "iproute2", "linux-image-cloud-arm64")

# Enough for `client.device`: no torch.
DEVICE = Recipe(
    name="the Raspberry Pi's system",
    packages=_BASE,
    wheels=(
        "flatbuffers==25.12.19",
        "grpcio==1.85.1",
        "numpy==2.4.6",
        "onnxruntime==1.28.0",
        "packaging==25.0",
        "protobuf==6.33.6",
        "typing_extensions==4.16.0",
    ),
    imports=("numpy", "onnxruntime", "grpc", "google.protobuf.descriptor_pool", "argparse", "json", "hashlib"),
)
