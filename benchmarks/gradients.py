"""Pictures rebuilt from one gradient: PSNR and CPU time of the attacks, in the same run and on the same pictures.

The work is that of the published tools: a scikit-learn digit, enlarged to 28x28, in three channels, one step of SGD of
DLG's LeNet with sigmoids. Digits 1000 and on are measured; settings were chosen on digits before 1000. The baseline is
the paper's own search, signed Adam with a fixed prior, for 1,000 steps.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from adversary.attacks.gradients.dlg import Dlg
from adversary.attacks.gradients.inverting_gradients import InvertingGradients
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.training import Recipe, Seen, Update
from wireleak.common.models import ModelConfig
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan

DIGITS, SEEDS = (1000, 1101, 1203), (0, 1)
SEARCHES: dict[str, tuple[Any, dict[str, Any]]] = {
    "inverting-gradients": (InvertingGradients, {}),
    "only the paper's steps": (InvertingGradients, {"iterations": 1000, "refine": 0}),
    "dlg": (Dlg, {"iterations": 60, "restarts": 3}),
}
TARGETS = {"inverting-gradients": (">= 40", "<= 5")}


def run() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = []
    for name, (kind, options) in SEARCHES.items():
        quality, seconds = [], []
        for digit in DIGITS:
            for seed in SEEDS:
                known, truth = captured(digit, seed)
                attack = kind(kind.options(**options), seed)
                attack.fit(known)
                start = time.process_time()
                assert known.training is not None
                guess = attack.guess(known.training.updates)
                seconds.append(time.process_time() - start)
                quality.append(-10 * float(np.log10(np.square(guess - truth).mean())))
        spread = f"dB, mean of {len(quality)} ({min(quality):.1f} to {max(quality):.1f})"
        target, limit = TARGETS.get(name, ("-", "-"))
        rows.append({"name": f"{name}: PSNR", "ratio": statistics.mean(quality), "target": target, "unit": spread})
        unit = f"CPU s, median ({min(seconds):.1f} to {max(seconds):.1f})"
        rows.append({"name": f"{name}: time", "ratio": statistics.median(seconds), "target": limit, "unit": unit})
    return rows


def picture(digit: int) -> tuple[Any, int]:
    """Return a digit as float32 (1, 3, 28, 28) in [0, 1], and its label."""
    digits = load_digits()
    small = torch.from_numpy(digits.images[digit].astype(np.float32) / 16)[None, None]
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear").repeat(1, 3, 1, 1)
    return large.numpy(), int(digits.target[digit])


def captured(digit: int, seed: int) -> tuple[Knowledge, Any]:
    """Return an attacker's knowledge of one step of SGD on one digit, and the digit."""
    model = ModelConfig(name="dlg-lenet", input_shape=(3, 28, 28), classes=10, cut=1, seed=seed)
    blocks, (x, label) = model.network().blocks, picture(digit)
    plan = ClientPlan(rounds=1, epochs=1, batch=1, learning_rate=0.1, optimiser="sgd")
    start = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    train_whole(blocks, x, np.array([label]), Training(plan, (0, 1)))
    end = {name: value.numpy().copy() for name, value in blocks.state_dict().items()}
    empty = np.zeros((0, *x.shape[1:]), np.float32)
    known = Knowledge(
        seen=np.zeros(0, np.float32),
        inputs=empty,
        labels=np.zeros(0, np.int64),
        attribute=None,
        classes=0,
        augmented=np.zeros(0, bool),
        seed=seed,
        model=model,
        training=Seen({1: start}, (Update(0, 1, start, end),)),
        recipe=Recipe(plan, 1, 1),
    )
    return known, x


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:36} {row['ratio']:6.2f} {row['unit']}  (target {row['target']})")
