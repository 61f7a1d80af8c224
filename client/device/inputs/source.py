"""Choose the reader of each input by the encoder's kind and the file's suffix."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.device.inputs import arrays, camera, images, windows, words
from client.device.inputs.item import Item
from client.device.model.errors import DeviceError, one_line
from client.device.model.manifest import Manifest

STANDARD_INPUT = "-"
_SUFFIXES = {
    "image": (*images.SUFFIXES, *arrays.SUFFIXES),
    "window": (".csv", *arrays.SUFFIXES),
    "text": (".txt", *arrays.SUFFIXES),
    "characters": (".txt", *arrays.SUFFIXES),
    "array": arrays.SUFFIXES,
}


@dataclass(frozen=True)
class Source:
    """Inputs to send.

    Parameters
    ----------
    items : generator of Item
        Close it to release the camera.
    live : bool
        Whether they arrive one after the other and cannot be read again, as from a camera.
    """

    items: Generator[Item, None, None]
    live: bool


def open_source(given: Sequence[str], manifest: Manifest, resize: bool, say: Callable[[str], None]) -> Source:
    """Return the inputs of files, folders and standard input ("-").

    Raises
    ------
    DeviceError
        A file is missing, or this encoder does not take its kind.
    """
    if STANDARD_INPUT in given:
        if len(given) > 1:
            raise DeviceError("--input: - is standard input, and cannot be joined with files; give one of them")
        return Source(_from_standard_input(manifest, resize, say), live=True)
    paths = [path for name in given for path in _files(Path(name), manifest.kind)]
    return Source(_from_files(paths, manifest, resize, say), live=False)


def open_camera(name: str, manifest: Manifest, seconds: float) -> Source:
    """Return the frames of a camera, one every `seconds`.

    Raises
    ------
    DeviceError
        The encoder takes no pictures.
    """
    if manifest.kind != "image":
        raise DeviceError(f"--camera: this encoder takes inputs of kind {manifest.kind}, no pictures; give --input")
    return Source(camera.frames(name, manifest.shape, manifest.scaling, seconds), live=True)


def nothing() -> Source:
    """Return no inputs."""
    none: tuple[Item, ...] = ()
    return Source((item for item in none), live=False)


def _files(path: Path, kind: str) -> list[Path]:
    suffixes = _SUFFIXES.get(kind, arrays.SUFFIXES)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        if not found:
            raise DeviceError(f"--input: {path} holds no file of {', '.join(suffixes)}; name another folder")
        return found
    if not path.is_file():
        raise DeviceError(f"--input: no file or folder {path}")
    if path.suffix.lower() not in suffixes:
        raise DeviceError(f"--input: {path} is no {kind} for this encoder; give a file of {', '.join(suffixes)}")
    return [path]


def _from_files(
    paths: Sequence[Path], manifest: Manifest, resize: bool, say: Callable[[str], None]
) -> Generator[Item, None, None]:
    for path in paths:
        if path.suffix.lower() in arrays.SUFFIXES:
            yield from arrays.from_file(path, manifest.shape)
        elif manifest.kind == "image":
            yield images.from_file(path, manifest.shape, manifest.scaling, resize)
        else:
            try:
                with path.open(encoding="utf-8-sig") as lines:
                    yield from _from_lines(str(path), lines, manifest, say)
            except (OSError, UnicodeDecodeError) as error:
                raise DeviceError(f"--input: cannot read {path}: {one_line(error)}") from error


def _from_lines(name: str, lines: Iterable[str], manifest: Manifest, say: Callable[[str], None]) -> Iterator[Item]:
    if manifest.kind == "window":
        return windows.cut(name, lines, manifest.shape, say)
    return words.numbered(name, lines, manifest.kind, manifest.shape, manifest.scaling)


def _from_standard_input(manifest: Manifest, resize: bool, say: Callable[[str], None]) -> Generator[Item, None, None]:
    if manifest.kind in ("window", "text", "characters"):
        yield from _from_lines(STANDARD_INPUT, iter(sys.stdin.readline, ""), manifest, say)
    elif manifest.kind == "image" and not sys.stdin.buffer.peek(1).startswith(b"\x93"):  # type: ignore[union-attr]
        yield images.from_bytes(sys.stdin.buffer.read(), manifest.shape, manifest.scaling, resize)
    else:
        yield from arrays.from_stream(sys.stdin.buffer, manifest.shape)
