"""The recipe of a Pi's system, and the first file system that its kernel gets."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.devices.pi import recipe
from wireleak.lab.devices.pi.initramfs import initramfs
from wireleak.lab.devices.pi.recipe import DEVICE, TRAINING, Recipe

ROOT = Path(__file__).parents[5]


@pytest.mark.parametrize("system", [DEVICE, TRAINING])
def test_a_system_has_the_versions_that_were_tested_on_the_host(system: Recipe) -> None:
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    assert not set(system.wheels) - set(tested)


@pytest.mark.parametrize(
    "change",
    [{"wheels": ("numpy==2.4.5",)}, {"packages": ("python3",)}, {"suite": "forky"}, {"disk": 800}, {"imports": ()}],
)
def test_another_recipe_has_another_hash(change: dict[str, Any]) -> None:
    assert dataclasses.replace(DEVICE, **change).hash != DEVICE.hash == dataclasses.replace(DEVICE).hash


def test_another_guest_script_makes_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = DEVICE.hash
    guest = Path(shutil.copytree(recipe.GUEST, tmp_path / "guest"))
    monkeypatch.setattr(recipe, "GUEST", guest)
    assert DEVICE.hash == before
    (guest / "start.sh").write_text("poweroff\n")
    assert DEVICE.hash != before


def test_cpio_reads_the_first_file_system(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    root = tmp_path / "root"
    drivers = root / "usr/lib/modules/6.12/kernel/drivers"
    for file in (root / "usr/bin/busybox", drivers / "virtio_net.ko.xz", drivers / "virtio_blk.ko"):
        file.parent.mkdir(parents=True, exist_ok=True)
        content = file.name.encode() * 100
        file.write_bytes(lzma.compress(content) if file.suffix == ".xz" else content)
    packed = gzip.decompress(initramfs(root, ("virtio_blk", "built_in", "virtio_net")))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    listed = subprocess.run(["cpio", "-tv"], input=packed, capture_output=True, check=True).stdout.decode()
    assert re.search(r"^crw.* 5, +1 .* dev/console$", listed, re.MULTILINE)
    unpack = ["cpio", "-i", "--quiet", "-d", "bin", "bin/*", "lib", "lib/*", "init"]
    subprocess.run(unpack, input=packed, check=True, cwd=unpacked)
    assert (unpacked / "lib/order").read_text().split() == ["virtio_blk", "virtio_net"]
    assert (unpacked / "lib/virtio_net.ko").read_bytes() == b"virtio_net.ko.xz" * 100
    assert (unpacked / "lib/virtio_blk.ko").read_bytes() == b"virtio_blk.ko" * 100
    assert (unpacked / "init").stat().st_mode & 0o111 and (unpacked / "bin/busybox").stat().st_mode & 0o111
