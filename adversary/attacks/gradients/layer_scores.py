"""Scores of the reconstructions from one layer's gradient, with their baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adversary.attacks.harness.knowledge import Array
from wireleak.common.measures.scores.matching import match


def layer_scores(
    found: Sequence[Array], left: Sequence[float], truth: Sequence[Array], mean: Array
) -> dict[str, float]:
    """Score the reconstructions of n updates against the attacker's own inputs.

    Parameters
    ----------
    found, truth : sequences of float32 (examples, *input_shape), n of each
        Reconstructions and inputs, in [0, 1].
    left : sequence of float, n
        Distance between gradients at the end of each search, 1 - cosine.
    mean : float32 (*input_shape)
        The attacker's mean input.

    Returns
    -------
    dict of str to float
        "inverted" is the main figure: decibels of PSNR above the mean input's, mean over inputs. "inverted_null" is the
        same for the reconstructions of other updates, over all cyclic shifts, and "inverted_null_high" the highest of
        them and of the mean input (0). Also: mean "inverted_mse", "inverted_psnr" (dB), "inverted_mean" (the mean
        input's PSNR) and "inverted_ssim" (from 11 pixels a side), and "inverted_match": the median cosine.
    """
    from wireleak.common.measures.scores.psnr import decibels
    from wireleak.common.measures.scores.registry import score_reconstruction

    whole = np.concatenate(truth)
    prior = decibels(np.broadcast_to(mean, whole.shape), whole)
    shifts = [_matched([*found[shift:], *found[:shift]], truth) for shift in range(len(found))]
    gains = [float((decibels(guess, whole) - prior).mean()) for guess in shifts]
    names = ["mse", "psnr"] + ["ssim"] * (min(whole.shape[2:]) >= 11)
    scores = score_reconstruction(shifts[0], whole, np.random.default_rng(0), only=names)
    return {
        "inverted": gains[0],
        "inverted_null": float(np.mean(gains[1:])),
        "inverted_null_high": max(0.0, *gains[1:]),
        "inverted_mean": float(prior.mean()),
        "inverted_match": 1 - float(np.median(left)),
        **{f"inverted_{score.measure}": score.value for score in scores},
    }


def _matched(found: Sequence[Array], truth: Sequence[Array]) -> Array:
    """Return the guesses of each update in the order that fits its inputs best: an update has no order."""
    return np.concatenate([guess[match(guess, own)] for guess, own in zip(found, truth, strict=True)])
