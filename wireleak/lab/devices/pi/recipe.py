"""The contents of an emulated Pi's system, and the hash under which it is cached."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

# The guest's own scripts: `init` mounts the system, `start` runs one job and switches the machine off.
from wireleak.lab.devices.pi.modules import NODE

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
    links : tuple of (str, str)
        Links that Debian would make when it configures the packages, and their targets.
    unused : tuple of str
        Patterns of files that are left out.
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
    links: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()

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

_FLOWER = (
    "alembic==1.20.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 certifi==2026.10.18 "
    "cffi==2.1.1 charset-normalizer==3.5.2 click==8.4.2 cryptography==46.0.7 fastapi==0.138.2 flwr==1.39.0 "
    "greenlet==3.5.6 grpcio==1.85.1 grpcio-health-checking==1.81.1 h11==0.16.0 httpcore==1.0.9 "
    "httptools==0.9.0 httpx==0.28.1 idna==3.20 iterators==0.0.2 Mako==1.4.3 markdown-it-py==4.3.0 "
    "MarkupSafe==3.0.4 mdurl==0.1.2 numpy==2.4.6 packaging==25.0 pathspec==1.1.1 prompt_toolkit==3.0.53 "
    "protobuf==6.33.6 psutil==7.2.2 pycparser==3.12 pycryptodome==3.24.1 pydantic==2.14.3 "
    "pydantic_core==2.50.4 Pygments==2.21.0 python-dotenv==1.2.4 PyYAML==6.0.3 requests==2.34.2 rich==14.3.4 "
    "safetensors==0.8.0 shellingham==1.5.4 SQLAlchemy==2.1.9 starlette==1.3.1 tomli==2.5.0 tomli_w==1.2.0 "
    "typer==0.20.1 typing_extensions==4.16.0 typing-inspection==0.4.5 urllib3==2.8.0 uvicorn==0.49.0 "
    "uvloop==0.23.0 watchfiles==1.3.0 wcwidth==0.9.4 websockets==17.4 "
)

# A Flower SuperNode whose ClientApp trains with torch: Debian's, because the registry's uses instructions that a Pi
# lacks.
TRAINING = Recipe(
    name="the Raspberry Pi's system with torch and Flower",
    packages=(*_BASE, "python3-torch"),
    wheels=tuple(_FLOWER.split()),
    imports=(*NODE, "pydantic", "psutil"),
    disk=2500,
    memory=2048,
    cpu="cortex-a72",
    links=tuple((f"usr/lib/aarch64-linux-gnu/lib{name}.so.3", f"{name}/lib{name}.so.3") for name in ("blas", "lapack")),
    unused=("usr/lib/libtorch-test", "usr/lib/python3/dist-packages/torch/bin/test_*"),
)
