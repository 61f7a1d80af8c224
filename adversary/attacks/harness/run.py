"""Run one attack on captures: read, join with what was granted, fit, guess, and write guesses beside controls."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from adversary.attacks.harness import baselines as controls
from adversary.attacks.harness.attack import Attack, Observation
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import PLAIN_TARGETS, Array, Knowledge, surrogate
from adversary.attacks.harness.registry import ATTACKS
from adversary.tap.decode.pcap import CaptureError
from wireleak.common.config import options_of, read_config
from wireleak.common.files import write_arrays, write_json
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.registry import summary


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
    """Print every attack's threat model, targets and options as JSON; the error of one that cannot be loaded."""
    listed: list[dict[str, Any]] = [
        {
            "name": name,
            "targets": one.targets,
            "reads": one.traffic,
            "threat": one.threat.as_json(),
            "options": one.options.model_json_schema(),
            "summary": summary(one),
        }
        for name, one in ATTACKS.all().items()
    ]
    listed += [vars(one) for one in ATTACKS.listed() if one.error]
    print(json.dumps(listed, indent=2))


class _Run:
    """One attack's state; whatever a user can get wrong fails in the constructor."""

    def __init__(self, path: Path) -> None:
        self.config = read_config(path, AttackConfig)
        self.kind = ATTACKS.get(self.config.attack)
        wanted = self.config.target if self.config.target in PLAIN_TARGETS else "attribute"
        if wanted != self.kind.targets:
            what = "the name of an attribute" if self.kind.targets == "attribute" else f'"{self.kind.targets}"'
            raise ValueError(f"target: {self.kind.name} guesses {what}, not {self.config.target!r}")
        if wanted == "label" and self.config.classes < 2:
            raise ValueError("classes: an attack on training labels needs the number of the task's classes, 2 or more")
        self.settings = options_of(self.kind.options, self.config.options, "options")
        self.guesses: dict[str, Array] = {}
        self.control_seconds: dict[str, float] = {}
        self.extra: dict[str, Any] = {}
        self.seen = self.kind.observe(self.settings, self.config, self._granted())
        self.notes = list(self.seen.notes)

    def guess(self) -> None:
        """Fill in the attack's own guess, and each control's."""
        self.fitted, self.guesses[self.kind.name] = self._fit_and_guess(self.seen)
        if self.fitted is not None:
            self.fitted.finish()
        if self.kind.targets in ("input", "secret"):
            self._reconstruction_controls()
        elif self.kind.targets == "attribute":
            self._attribute_controls()
        elif self.kind.targets != "canary":
            self._label_controls()
        for name, other in self.seen.others():
            self._control(name, partial(self._repeated, name, other))

    def write(self) -> None:
        """Write guesses.npz and meta.json, each whole or not at all."""
        out = self.config.out
        arrays: dict[str, Any] = {name: np.asarray(guess, np.float32) for name, guess in self.guesses.items()}
        write_arrays(out / "guesses.npz", arrays)
        write_json(out / "meta.json", self._meta())

    def _meta(self) -> dict[str, Any]:
        return {
            **self.config.model_dump(
                mode="json", include={"attack", "target", "seed", "granted", "captures", "training", "victims"}
            ),
            "options": self.settings.model_dump(mode="json"),
            "threat": self.kind.threat.as_json(),
            "observations": self.seen.messages,
            "bytes": self.seen.bytes,
            "prior": self.seen.unseen,
            "fit": self.fitted.report if self.fitted else None,
            "control_seconds": self.control_seconds,
            "notes": self.notes,
            **self.extra,
        }

    def _granted(self) -> Knowledge:
        """Everything on file; what the attack may see of it is decided by its threat model when it fits."""
        granted = self.config.granted
        known = surrogate(granted.surrogate, self.config.target, self.config.seed)
        needs = {str(what) for what in self.kind.threat.knows} & {"architecture", "weights", "head"}
        for what, file in (("weights", granted.encoder), ("head", granted.head)):
            if what in needs and (file is None or not file.is_file()):
                field = "encoder" if what == "weights" else what
                raise ValueError(f"granted.{field}: {self.kind.name} knows the {what}; name its .safetensors file")
        if "candidates" in self.kind.threat.knows and not granted.files.get("candidates", Path()).is_file():
            raise ValueError(
                f"granted.files.candidates: {self.kind.name} chooses from known inputs; name their .npz file"
            )
        model = None
        if needs:
            if granted.model is None:
                raise ValueError(f"granted.model: {self.kind.name} knows the architecture; give the model's config")
            # Importing the models imports torch, which attacks that need none of it should not pay for.
            from wireleak.common.models import ModelConfig

            model = ModelConfig.model_validate(granted.model)
        classes = self.config.classes if self.config.target == "label" else known.classes
        known = replace(known, encoder=granted.encoder, head=granted.head, files=granted.files)
        return replace(known, model=model, classes=classes)

    def _fit_and_guess(self, seen: Observation[Any]) -> tuple[Attack | None, Array]:
        """Fit on what the threat model grants and guess for the victims; the prior where nothing was seen."""
        if seen.unseen:
            return None, self._prior()
        known = seen.knowledge.limited(self.kind.threat.knows)
        attack = self.kind(self.settings, self.config.seed)
        start, cpu = time.monotonic(), time.process_time()
        attack.fit(known)
        seconds = {"fit": time.monotonic() - start, "fit_cpu": time.process_time() - cpu}
        start = time.monotonic()
        guess = self._filled(seen.ask(attack))
        # An attack that learns from fewer pairs than it has says so itself.
        attack.report = {"pairs": len(known)} | attack.report
        attack.report["seconds"] = seconds | {"guess": time.monotonic() - start}
        return attack, guess

    def _repeated(self, name: str, other: Observation[Any]) -> Array:
        """Guess of the same attack on other captures."""
        if self.fitted is not None and other.repeats(self.seen):
            # A fit is a function of its pairs and the seed: repeating it would give these very numbers.
            self.notes.append(f"{name}: the tensors equal the captured ones bit for bit, so the guess is the same")
            return self.guesses[self.kind.name]
        return self._fit_and_guess(other)[1]

    def _reconstruction_controls(self) -> None:
        known, victims = self.seen.pairs, self.seen.victims
        is_text = are_numbered(self.seen.known.inputs)
        self._control("commonest" if is_text else "mean", self._prior)
        if not is_text:
            self._control("background", lambda: controls.background(self.seen.known, self.config.victims))
        if self.fitted is None:
            return
        if victims is not None:
            if not is_text:  # the numbers of words are names, not amounts
                self._control("ridge", lambda: self._filled(self._ridge(known, victims)))
            self._control("nearest", lambda: self._filled(controls.nearest(known.seen, known.inputs, victims)))
        self._shuffled_control()

    def _shuffled_control(self) -> None:
        n, groups = self.seen.guessed, self.seen.groups
        own = self.guesses[self.kind.name][self.seen.places[:n]]
        if groups == 1 < n:
            return
        places = np.arange(n).reshape(groups, -1)
        partner = places[controls.derangement(groups, self.config.seed)].ravel()
        self._control("shuffled", lambda: self._filled(own[partner]))

    def _label_controls(self) -> None:
        self._control("majority", self._prior)
        if self.fitted is not None:
            self._shuffled_control()

    def _attribute_controls(self) -> None:
        self._control("majority", self._prior)
        answers = self.seen.predictions
        if answers is not None:
            self._control("conditional-majority", lambda: self._filled(self._conditional_majority(answers)))
        if (fitted := self.fitted) is not None:
            self._control("permuted", lambda: self._permuted(fitted))

    def _permuted(self, fitted: Attack) -> Array:
        """Guesses of the same attack on values dealt out at random; of several draws (draws, n, classes)."""
        rng = np.random.default_rng([self.config.seed, 1])
        drawn = [fitted.permuted(rng) for _ in range(controls.DRAWS)]
        if any(one is None for one in drawn):
            attack = self.kind(self.settings, self.config.seed)
            attack.fit(controls.permuted(self.seen.knowledge.limited(self.kind.threat.knows)))
            return self._filled(self.seen.ask(attack))
        return np.stack([self._filled(self.seen.ask(one)) for one in drawn if one is not None])

    def _ridge(self, known: Knowledge, victims: Array) -> Array:
        decoder = controls.ridge(known.seen, known.inputs, known.held_out())
        self.extra["ridge"] = {"strength": decoder.strength, "validation_mse": decoder.error}
        guess = decoder.guess(victims).reshape(-1, *known.inputs.shape[1:])
        return np.clip(guess, known.inputs.min(), known.inputs.max())

    def _conditional_majority(self, answers: Array) -> Array:
        return controls.conditional_majority(self.seen.known.without_copies(), answers)

    def _control(self, name: str, make: Callable[[], Array]) -> None:
        start = time.monotonic()
        self.guesses[f"control:{name}"] = make()
        self.control_seconds[name] = time.monotonic() - start

    def _prior(self) -> Array:
        return np.repeat(self._prior_row, self.config.victims, axis=0)

    @cached_property
    def _prior_row(self) -> Array:
        known = self.seen.known.without_copies()
        if self.kind.targets == "member":
            return np.full((1, 2), 0.5, np.float32)
        if self.kind.targets == "canary":
            return np.zeros((1, 1), np.float32)
        if self.kind.targets == "label":
            # The task's class frequencies are public, and of all that is granted the surrogate's come nearest.
            known = replace(known, attribute=known.labels, classes=self.config.classes)
        make = controls.mean_input if self.kind.targets in ("input", "secret") else controls.majority
        return make(known, 1)

    def _filled(self, rows: Array) -> Array:
        """`rows`, then the prior for the victims' inputs that were not seen."""
        guess = self._prior()
        guess[self.seen.places[: len(rows)]] = rows
        return guess


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """Both signals that end a process end it with status 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)
