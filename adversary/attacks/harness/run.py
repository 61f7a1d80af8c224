"""Run one attack on captures: observe, fit, guess, and write the guesses with their target's baselines."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from adversary.attacks.harness.attack import Attack, Evidence
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge, surrogate
from adversary.attacks.harness.registry import ATTACKS
from adversary.tap.decode.packets.pcap import CaptureError
from wireleak.common.config import options_of, read_config
from wireleak.common.files import write_arrays, write_json
from wireleak.common.memory import check_memory, out_of_memory
from wireleak.common.registry import summary
from wireleak.common.targets.baselines import derangement
from wireleak.common.targets.memory import Sizes
from wireleak.common.targets.registry import target_of
from wireleak.common.targets.target import OWN, Case, Pairs

# Part of an attack's time in which it trains; the rest is for guesses, baselines and files.
_TRAINING = 0.7
# Baselines that are left out where the time is over; the others take no time.
_COSTLY = ("ridge", "nearest", "permuted")


def attack(config: Path) -> None:
    """Run the attack that a config file describes, and write guesses.npz and meta.json into its `out`.

    Raises
    ------
    SystemExit
        With status 2, after one line on stderr, when the config, a capture or a granted file is wrong;
        with status 0 on SIGINT or SIGTERM, and nothing is written.
    """
    with _ends_in_order():
        try:
            run = _Run(config)
            run.guess()
        except (ValueError, CaptureError) as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        run.write()


def describe() -> None:
    """Print every attack's threat model, target and options as JSON, or the error if it cannot be loaded."""
    # Those that cannot be loaded come first: one of them may have the name of another.
    listed: list[dict[str, Any]] = [vars(entry) for entry in ATTACKS.listed() if entry.error]
    listed += [
        {
            "name": name,
            "targets": kind.target.name,
            "reads": kind.traffic,
            "mode": kind.mode,
            "threat": kind.threat.as_json(),
            "options": kind.options.model_json_schema(),
            "summary": summary(kind),
        }
        for name, kind in ATTACKS.all().items()
    ]
    print(json.dumps(listed))


class _Run:
    """State of one attack; every mistake of a user raises in the constructor."""

    def __init__(self, path: Path) -> None:
        self.began = time.monotonic()
        self.config = read_config(path, AttackConfig)
        self.kind = ATTACKS.get(self.config.attack)
        self.target = target_of(self.config.target)
        if not isinstance(self.target, self.kind.target):
            guessed = self.kind.target.guessed
            raise ValueError(f"target: {self.kind.name} guesses {guessed}, not {self.config.target!r}")
        self.settings = options_of(self.kind.options, self.config.options, "options")
        self.guesses: dict[str, Array] = {}
        self.control_seconds: dict[str, float] = {}
        self.extra: dict[str, Any] = {}
        self.seen = self.kind.observe(self.settings, self.config, self._granted())
        self.notes = list(self.seen.notes)
        self.unable = self.seen.unseen

    def guess(self) -> None:
        """Compute the attack's guess and each baseline's: the target's first, then those of the attack's base."""
        if self.config.own is not None:
            self.fitted, self.guesses[self.kind.name] = self._made_before(self.config.own)
        else:
            self.fitted, self.guesses[self.kind.name] = self._fit_and_guess(self.seen)
        if self.fitted is not None:
            if self.config.own is None:
                self.fitted.finish()
            if self.fitted.report.get("stopped"):
                self.notes.append(f"{self.fitted.report['stopped']}, at the end of its time")
        if self.config.granted.surrogate is None:
            return
        for name, make in self.target.baselines(self._case()):
            self._baseline(name, make, self._until(1.0) if name in _COSTLY else None)
        for name, other in self.seen.others():
            self._baseline(name, partial(self._repeated, name, other), self._until(_TRAINING))

    def write(self) -> None:
        """Write meta.json and guesses.npz, each whole or not at all; the guesses come last and mark the end."""
        out = self.config.out
        arrays: dict[str, Any] = {name: np.asarray(guess, np.float32) for name, guess in self.guesses.items()}
        write_json(out / "meta.json", self._meta())
        write_arrays(out / "guesses.npz", arrays)

    def _meta(self) -> dict[str, Any]:
        return {
            **self.config.model_dump(
                mode="json", include={"attack", "target", "seed", "granted", "captures", "training", "victims"}
            ),
            "options": self.settings.model_dump(mode="json"),
            "threat": self.kind.threat.as_json(),
            "observations": self.seen.messages,
            "bytes": self.seen.bytes,
            "reads": {name: [asdict(one) for one in seen.reads] for name, seen in self._sources()},
            "unread": self.seen.unread.tolist(),
            "prior": self.unable,
            "fit": self.fitted.report if self.fitted else None,
            "control_seconds": self.control_seconds,
            "notes": self.notes,
            **self.extra,
        }

    def _sources(self) -> Iterator[tuple[str, Evidence[Any]]]:
        """Yield the attack's captures under "", and those of a baseline that repeats it elsewhere under its name."""
        yield OWN, self.seen
        yield from self.seen.others()

    def _granted(self) -> Knowledge:
        """Load everything granted; at the fit, the threat model decides how much the attack may see."""
        granted = self.config.granted
        examples = granted.surrogate or granted.public
        assert examples is not None
        known = surrogate(examples, self.target.attribute, self.config.seed)
        if (values := self.target.derived(known.inputs)) is not None:
            known = replace(known, attribute=values, classes=int(values.max()) + 1)
        known = replace(known, classes=self.target.classes(self.config.classes, known.classes))
        needs = {str(what) for what in self.kind.threat.knows} & {"architecture", "weights", "head"}
        for what, file in (("weights", granted.encoder), ("head", granted.head)):
            if what in needs and (file is None or not file.is_file()):
                field = "encoder" if what == "weights" else what
                raise ValueError(f"granted.{field}: {self.kind.name} needs the {what}; give its .safetensors file")
        if "candidates" in self.kind.threat.knows and not granted.files.get("candidates", Path()).is_file():
            raise ValueError(
                f"granted.files.candidates: {self.kind.name} chooses from known inputs; give their .npz file"
            )
        model = None
        if needs:
            if granted.model is None:
                raise ValueError(f"granted.model: {self.kind.name} needs the architecture; give the model's config")
            # Importing the models imports torch, which would slow down attacks that do not need it.
            from wireleak.common.models import ModelConfig

            model = ModelConfig.model_validate(granted.model)
        return replace(known, model=model, encoder=granted.encoder, head=granted.head, files=granted.files)

    def _fit_and_guess(self, seen: Evidence[Any]) -> tuple[Attack | None, Array]:
        """Fit with the threat model's grants and guess for the victims; guess the prior where nothing was seen."""
        if seen.unseen:
            return None, self._prior()
        known = seen.knowledge.limited(self.kind.threat.knows)
        attack = self.kind(self.settings, self.config.seed)
        attack.deadline = self._until(_TRAINING)
        start, cpu = time.monotonic(), time.process_time()
        try:
            if len(known.seen):
                shapes = known.seen.shape[1:], known.inputs.shape[1:]
                check_memory(self.kind.name, attack.memory(Sizes(len(known), self.config.victims, *shapes)))
            attack.fit(known)
            seconds = {"fit": time.monotonic() - start, "fit_cpu": time.process_time() - cpu}
            start = time.monotonic()
            guess = self._filled(seen.ask(attack), seen)
        except (MemoryError, RuntimeError) as error:
            if (short := out_of_memory(error)) is None:
                raise
            if seen is self.seen:
                self.unable = f"{short}; the guess is the prior"
            else:
                self.notes.append(f"a baseline on other captures: {short}; its guess is the prior")
            return None, self._prior()
        # An attack that trains on fewer pairs overwrites this number.
        attack.report = {"pairs": len(known)} | attack.report
        attack.report["seconds"] = seconds | {"guess": time.monotonic() - start}
        return attack, guess

    def _made_before(self, folder: Path) -> tuple[Attack | None, Array]:
        """Read the guess of a process that could not read the surrogate examples, with the prior where it has none."""
        said = json.loads((folder / "meta.json").read_text())
        with np.load(folder / "guesses.npz", allow_pickle=False) as file:
            guess: Array = file[self.kind.name]
        missing = ~np.isfinite(guess.reshape(len(guess), -1)).all(1)
        guess[missing] = self._prior()[missing]
        self.unable, self.notes = said["prior"], list(dict.fromkeys([*self.notes, *said["notes"]]))
        if said["fit"] is None:
            return None, guess
        attack = self.kind(self.settings, self.config.seed)
        attack.report = said["fit"]
        return attack, guess

    def _repeated(self, name: str, other: Evidence[Any]) -> Array:
        """Return the guess of the same attack on other captures."""
        if self.fitted is not None and other.repeats(self.seen):
            # A fit depends only on its pairs and the seed, so repeating it would give the same numbers.
            self.notes.append(f"{name}: the tensors equal the captured ones bit for bit, so the guess is the same")
            return self.guesses[self.kind.name]
        return self._fit_and_guess(other)[1]

    def _case(self) -> Case:
        """Return the attack in the form that the target's baselines need."""
        seen, fitted = self.seen, self.fitted
        pairs, victims = seen.pairs, seen.victims
        own = self.guesses[self.kind.name][seen.places[: seen.guessed]]
        return Case(
            own=seen.known,
            count=self.config.victims,
            prior=self._prior,
            filled=self._filled,
            pairs=None if victims is None or seen.unseen else Pairs(pairs, pairs.seen, victims),
            predictions=seen.predictions,
            guess=None if fitted is None else own,
            # The inputs behind one update have no order, so only another update's guesses belong to other inputs.
            shuffled=None if seen.groups == 1 < seen.guessed else self._shuffled,
            permuted=self._permuted,
            report=self.extra.__setitem__,
        )

    def _shuffled(self, rows: Array) -> Array:
        """Give every group of rows the guesses of another group."""
        places = np.arange(len(rows)).reshape(self.seen.groups, -1)
        return rows[places[derangement(self.seen.groups, self.config.seed)].ravel()]

    def _permuted(self) -> Array:
        """Return the guesses (draws, n, classes) of the attack on permuted values; fewer at the end of its time."""
        rng, seen, fitted = np.random.default_rng([self.config.seed, 1]), self.seen, self.fitted
        assert fitted is not None
        known, end = seen.knowledge.limited(self.kind.threat.knows), self._until(1.0)
        drawn: list[Array] = []
        while len(drawn) < fitted.permutations and (end is None or not drawn or time.monotonic() < end):
            drawn.append(self._filled(seen.ask(fitted.permuted(known, rng))))
        return np.stack(drawn)

    def _until(self, part: float) -> float | None:
        """Return the time by `time.monotonic` at which a part of the attack's seconds is over; None without a limit."""
        return None if self.config.seconds is None else self.began + part * self.config.seconds

    def _baseline(self, name: str, make: Callable[[], Array], end: float | None) -> None:
        """Make a baseline's guess, unless the time `end` is over."""
        start = time.monotonic()
        same = self.fitted is not None and name == self.kind.same_as
        if end is not None and start > end and not same:
            self.notes.append(f"the baseline {name} is left out: no time was left")
            return
        try:
            self.guesses[f"control:{name}"] = self.guesses[self.kind.name] if same else make()
        except MemoryError as error:
            self.notes.append(f"{out_of_memory(error)}; the baseline {name} is left out")
            return
        self.control_seconds[name] = time.monotonic() - start

    def _prior(self) -> Array:
        return np.repeat(self._prior_row, self.config.victims, axis=0)

    @cached_property
    def _prior_row(self) -> Array:
        row = self.target.prior(self.seen.known.without_copies())
        # Another process, which may read the surrogate examples, puts the prior there.
        return np.full_like(row, np.nan) if self.config.granted.surrogate is None else row

    def _filled(self, rows: Array, seen: Evidence[Any] | None = None) -> Array:
        """Return `rows` in the victims' places, as the captures or `seen` have them, and elsewhere the prior."""
        guess = self._prior()
        guess[(seen or self.seen).places[: len(rows)]] = rows
        return guess


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """End the process with status 0 on SIGINT and SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)
