"""MotionSense: motion of the phones of 24 people who walked, jogged, sat, stood and took stairs.

x float32 (n, 6, 128): user acceleration x y z in g, rotation rate x y z in rad/s; 128 samples are 2.56 s at 50 Hz;
windows do not overlap. Task: activity. Private: gender, annotated. Groups: subject, trial. For gender,
split by subject: a split by trial would measure identity. Sitting and standing reveal little.
Source: Malekzadeh et al., IoTDI 2019, https://github.com/mmalekzadeh/motion-sense.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import Attribute, DataError, Dataset, Floats, Ints
from wireleak.lab.data.registry import first_existing, register
from wireleak.lab.data.tables import read_columns

_ACTIVITIES = ("dws", "ups", "wlk", "jog", "sit", "std")
_SAMPLES = 128
_RECORDINGS = "A_DeviceMotion_data"
_SUBJECTS = "data_subjects_info.csv"
_CHANNELS = tuple(f"{kind}.{axis}" for kind in ("userAcceleration", "rotationRate") for axis in "xyz")
_RECORDING = re.compile(r"(dws|ups|wlk|jog|sit|std)_(\d+)/sub_(\d+)\.csv$")


def _locate(folders: list[Path]) -> Path | None:
    for folder in folders:
        if (packed := folder / "motionsense.npz").is_file():
            return packed
        for base in (folder, folder / "motionsense", folder / "motion-sense" / "data"):
            recordings = first_existing([base], _RECORDINGS, f"{_RECORDINGS}.zip")
            if recordings and (base / _SUBJECTS).is_file():
                return base
    return None


@register(
    "motionsense",
    locate=_locate,
    examples=10854,
    shape=(6, 128),
    task="activity (downstairs, upstairs, walk, jog, sit, stand)",
    attributes=("gender",),
    obtain="put A_DeviceMotion_data.zip and data_subjects_info.csv of https://github.com/mmalekzadeh/motion-sense "
    "(folder data) into ~/.cache/wireleak/data/motionsense",
    licence="MIT",
)
def motionsense(where: Path) -> Dataset:
    """Read MotionSense from `motionsense.npz`, or the folder of `A_DeviceMotion_data` and `data_subjects_info.csv`."""
    x, activity, subject, trial, gender = _read_packed(where) if where.suffix == ".npz" else _read_recordings(where)
    return Dataset(
        name="motionsense",
        x=x,
        y=activity,
        task="activity",
        classes=_ACTIVITIES,
        attributes={"gender": Attribute("gender", gender, ("female", "male"), measured=False)},
        groups={"subject": subject, "trial": trial},
        source=f"MotionSense (Malekzadeh et al. 2019) from {where.name}",
    )


def _read_packed(path: Path) -> tuple[Floats, Ints, Ints, Ints, Ints]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = stored["activities"][stored["activity"]].tolist()
            activity = np.array([_ACTIVITIES.index(name) for name in names], np.int64)
            subject, trial, gender = (stored[key].astype(np.int64) for key in ("subject", "trial", "gender"))
            return stored["x"].astype(np.float32), activity, subject, trial, gender
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"motionsense: cannot read {path} ({error}); fetch it again") from error


def _read_recordings(folder: Path) -> tuple[Floats, Ints, Ints, Ints, Ints]:
    people = read_columns("motionsense", folder / _SUBJECTS, ("code", "gender"))
    try:
        gender = {int(code): int(value) for code, value in zip(people["code"], people["gender"], strict=True)}
    except ValueError as error:
        raise DataError(
            f"motionsense: {folder / _SUBJECTS} holds a code or gender that is not a number; fetch it again"
        ) from error
    windows, labels = [], []
    for name, text in _files(folder):
        match = _RECORDING.search(name)
        if not match:
            continue
        code = int(match[3])
        if code not in gender:
            raise DataError(f"motionsense: subject {code} of {name} is not in {_SUBJECTS}")
        cut = _windows(name, text)
        windows.append(cut)
        row = (_ACTIVITIES.index(match[1]), code, int(match[2]), gender[code])
        labels.append(np.tile(np.array(row, np.int64), (len(cut), 1)))
    if not windows:
        raise DataError(f"motionsense: no recordings (dws_1/sub_1.csv, ...) in {folder / _RECORDINGS}")
    table = np.concatenate(labels)
    activity, subject, trial, sex = (np.ascontiguousarray(column) for column in table.T)
    return np.concatenate(windows), activity, subject, trial, sex


def _windows(name: str, text: str) -> Floats:
    header, _, body = text.partition("\n")
    columns = [column.strip().strip('"') for column in header.split(",")]
    if missing := [channel for channel in _CHANNELS if channel not in columns]:
        raise DataError(f"motionsense: {name} has no column {', '.join(missing)}")
    wanted = [columns.index(channel) for channel in _CHANNELS]
    try:
        samples = np.loadtxt(io.StringIO(body), delimiter=",", usecols=wanted, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise DataError(f"motionsense: {name} holds a value that is not a number ({error})") from error
    count = len(samples) // _SAMPLES
    cut = samples[: count * _SAMPLES].reshape(count, _SAMPLES, len(_CHANNELS))
    return np.ascontiguousarray(cut.transpose(0, 2, 1))


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    base = folder / _RECORDINGS
    if base.is_dir():
        for path in sorted(base.rglob("*.csv")):
            yield path.relative_to(folder).as_posix(), path.read_text()
        return
    try:
        with zipfile.ZipFile(folder / f"{_RECORDINGS}.zip") as stored:
            for name in sorted(stored.namelist()):
                if name.endswith(".csv") and not name.startswith("__MACOSX"):
                    yield name, stored.read(name).decode()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"motionsense: cannot read {folder / _RECORDINGS}.zip ({error}); fetch it again") from error
