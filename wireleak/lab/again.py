"""Attack a capture that was recorded earlier; score the guess where the run's ledger is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from wireleak.lab.attacking import fit_and_guess
from wireleak.lab.processes import Launcher
from wireleak.lab.score import read_guesses
from wireleak.lab.study import StudyError
from wireleak.measures import Score, score_attribute, score_reconstruction


def attack_again(
    capture: Path,
    attack: str,
    target: str,
    device: Path | None,
    surrogate: Path | None,
    victims: int | None,
    seed: int,
    out: Path | None,
    console: Console,
) -> None:
    """Run one attack on a capture and print where its guesses are, and their scores if they can be scored.

    Parameters
    ----------
    capture : Path
        The victims' capture.
    attack, target : str
        The attack's name, and "input" or a private attribute.
    device, surrogate : Path, optional
        The attacker's own capture and inputs; by default those of the run that `capture` is part of.
    victims : int, optional
        How many inputs the victims sent; by default as many as the run's study says.
    seed : int
        Of the attack.
    out : Path, optional
        Folder for the guesses.
    console : Console
        Where the scores go.

    Raises
    ------
    StudyError
        A file that it needs is missing.
    LaunchError
        The attack failed.
    """
    cell = capture.resolve().parent.parent
    device = _existing(device or capture.with_name("serve-attacker.pcap"), "--device")
    surrogate = _existing(surrogate or cell / "adversary" / "granted" / "surrogate.npz", "--surrogate")
    ledger = cell / "sealed" / "ledger.npz"
    truth = _truth(ledger, target) if ledger.is_file() else None
    if victims is None:
        if truth is None:
            raise StudyError("--victims: how many inputs the victims sent is not known here; give a number")
        victims = len(truth)
    out = (out or cell / "adversary" / f"{attack}-{target}-again").resolve()
    config = {
        "attack": attack,
        "target": target,
        "seed": seed,
        "captures": {"device": [str(device)], "victims": [str(_existing(capture, "CAPTURE"))]},
        "granted": {"surrogate": str(surrogate)},
        "victims": victims,
        "out": str(out),
    }
    with console.status(f"{attack} on {capture.name}"), Launcher(preload=False) as launcher:
        guesses = fit_and_guess(launcher, attack, config, out / "attack.log")
    console.print(f"guesses: {guesses}", soft_wrap=True, highlight=False)
    if truth is not None:
        console.print(_scores(guesses, truth, seed, reconstruction=target == "input"))


def _existing(path: Path, option: str) -> Path:
    if not path.is_file():
        raise StudyError(f"{option}: no file {path}; name it")
    return path.resolve()


def _truth(ledger: Path, target: str) -> np.ndarray:
    with np.load(ledger, allow_pickle=False) as stored:
        key = "x" if target == "input" else f"attribute:{target}"
        if key not in stored:
            known = [name.removeprefix("attribute:") for name in stored.files if name.startswith("attribute:")]
            raise StudyError(f"--target: no attribute {target!r}; choose input, {', '.join(known)}")
        values: np.ndarray = stored[key]
    return values


def _scores(path: Path, truth: np.ndarray, seed: int, *, reconstruction: bool) -> Table:
    table = Table("guess", "measure", "value", "95 % interval", "n", box=None)
    for name, guess in read_guesses(path).items():
        rng = np.random.default_rng(seed)
        scores: list[Score] = (score_reconstruction if reconstruction else score_attribute)(guess, truth, rng)
        for one in scores:
            interval = f"[{one.low:.4f}, {one.high:.4f}]"
            table.add_row(name.replace("control:", "  "), one.measure, f"{one.value:.4f}", interval, str(one.n))
    return table
