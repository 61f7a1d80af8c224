"""Costly measures of quality are taken of chosen guesses, and the others keep their numbers."""

from __future__ import annotations

import numpy as np

from wireleak.common.targets.input import Input, Inputs, described


def test_only_named_guesses_are_described_and_all_are_judged_as_before() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((12, 3, 32, 32), np.float32)
    truth = Inputs(x, None, np.zeros(0, np.int64), np.zeros((0, 3, 32, 32), np.float32), 10**6)
    noise = rng.normal(0, 0.1, x.shape).astype(np.float32)
    guesses = {"": np.clip(x + noise, 0, 1), "mean": np.repeat(x.mean(0)[None], 12, 0), "ridge": 0.5 * x}

    def scores(names: tuple[str, ...] | None) -> dict[tuple[str, str], float]:
        with described(names):
            return {(one.guess, one.score.measure): one.score.value for one in Input().score(guesses, truth, 3)}

    every, own, none = scores(None), scores(("",)), scores(())
    assert {"ssim", "mse", "psnr", "reid"} <= {measure for _, measure in every}
    assert {measure for guess, measure in own if guess == ""} == {measure for guess, measure in every if guess == ""}
    assert {measure for guess, measure in own if guess} == {"mse", "psnr", "reid"} == {measure for _, measure in none}
    assert own.items() <= every.items() and none.items() <= own.items()
    assert [guess for guess, _ in own] == sorted((guess for guess, _ in own), key=list(guesses).index)
    assert scores(None) == every, "the choice ends with its block"
