"""Candidates: which of a few known inputs a device sent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input

_BATCH = 256


class CandidatesOptions(BaseModel):
    """Settings of `Candidates`."""

    model_config = ConfigDict(extra="forbid")
    clip: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Norm to which the device clips; by default the candidates file's value.",
    )
    norm: Literal[1, 2] | None = Field(
        None,
        description="Norm of the clip: 1 (Laplace noise) or 2 (Gaussian noise); by default the file's value, or 2.",
    )


@register
class Candidates(ActivationAttack):
    """Name the input that a device sent, out of a few candidates, from the activation that crossed the wire.

    This is the informed attacker of reconstruction robustness. It has the encoder and all inputs that could have been
    sent, and does not know which one was. Candidates are equally likely, and longer noise is rarer, so the candidate
    whose clipped activation is nearest is the most probable one. "Nearest" is in Euclidean norm under Gaussian and
    metric-privacy noise, in L1 norm under Laplace noise. The attack is therefore the Bayes attacker, and its success
    cannot exceed any valid bound. It guesses each message by itself, although no two victims hold the same input.
    Noise on the input is another matter: the encoder bends it, so the nearest candidate need not be the most probable.

    References
    ----------
    Balle, Cherubin, Hayes, "Reconstructing Training Data with Informed Adversaries", S&P 2022.
    """

    name = "candidates"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.ARCHITECTURE, Knows.WEIGHTS, Knows.CANDIDATES),
    )
    target = Input
    options = CandidatesOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Compute each candidate's activation without the noise."""
        granted = read_candidates(knowledge.files.get("candidates"))
        self._candidates = granted.x
        self._codes = _activations(knowledge, self._candidates)
        self._norm = self.settings.norm or granted.norm
        clip = self.settings.clip or granted.clip
        if clip is not None:
            norms = np.linalg.norm(self._codes, ord=self._norm, axis=1, keepdims=True)
            self._codes *= np.minimum(1.0, clip / np.maximum(norms, 1e-30))
        self.report |= {"candidates": len(self._candidates), "clip": clip, "norm": self._norm}

    def guess(self, activations: Array) -> Array:
        """Return the most probable candidates (n, *input_shape) for activations (n, *activation_shape)."""
        return self._candidates[self.choose(activations)]

    def choose(self, seen: Array) -> npt.NDArray[np.int64]:
        """Return the indices (n,) of the most probable candidates."""
        flat = seen.reshape(len(seen), -1)
        if flat.shape[1] != self._codes.shape[1]:
            raise ValueError(
                f"captures: rows have {flat.shape[1]} values, the encoder gives {self._codes.shape[1]}; grant another"
            )
        chosen = [self._distances(flat[i : i + _BATCH]).argmin(1) for i in range(0, len(flat), _BATCH)]
        return np.concatenate(chosen).astype(np.int64)

    def _distances(self, seen: Array) -> npt.NDArray[np.floating]:
        """Return the distances (n, m) of activations (n, d) from the candidates', up to a term equal for all."""
        if self._norm == 1:
            from scipy.spatial.distance import cdist

            return np.asarray(cdist(seen, self._codes, "cityblock"))
        lengths = (self._codes**2).sum(axis=1)
        return np.asarray(lengths - 2 * seen @ self._codes.T)


class GrantedCandidates(NamedTuple):
    """Contents of a `candidates.npz`: inputs (m, *input_shape), and the device's public clip in an L1 or L2 `norm`."""

    x: Array
    clip: float | None
    norm: int


def read_candidates(path: Path | None) -> GrantedCandidates:
    """Read a granted `candidates.npz`: float32 `x`, and the device's `clip` and `norm` where it has them.

    Raises
    ------
    ValueError
        No file is granted, or it is not such a file.
    """
    if path is None:
        raise ValueError("granted.files.candidates: this attack needs the inputs it chooses from; give their .npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            x = file["x"].astype(np.float32)
            clip = float(file["clip"]) if "clip" in file.files else None
            norm = int(file["norm"]) if "norm" in file.files else 2
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"granted.files.candidates: {path} is not an .npz file with an array 'x': {error}") from None
    if len(x) < 2:
        raise ValueError(f"granted.files.candidates: {path} holds {len(x)} inputs; give at least 2")
    if norm not in (1, 2):
        raise ValueError(f"granted.files.candidates: {path} has norm {norm}; give 1 or 2")
    return GrantedCandidates(x, clip, norm)


def _activations(knowledge: Knowledge, inputs: Array) -> Array:
    import torch

    from adversary.attacks.harness.device import best_device
    from wireleak.common.models import load_weights

    if knowledge.model is None or knowledge.encoder is None:
        raise ValueError("granted.encoder: this attack computes activations; grant the model and its weights")
    encoder, _ = knowledge.network().split(knowledge.model.cut)
    load_weights(encoder, knowledge.encoder)
    device = best_device()
    encoder.to(device).eval()
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(inputs), _BATCH)
        codes: Array = torch.cat([encoder(batch.to(device)).flatten(1).cpu() for batch in batches]).numpy()
    return codes
