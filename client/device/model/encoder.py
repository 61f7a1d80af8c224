"""Run an exported encoder with onnxruntime."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from client.device.model.errors import DeviceError, one_line
from client.device.model.manifest import Manifest

# Versions of onnxruntime from 1.29 on report their use unless this is set before their import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Floats = npt.NDArray[np.float32]
_SILENT = 4


class Encoder:
    """An encoder in memory.

    Parameters
    ----------
    manifest : Manifest
    threads : int
        Threads that compute one batch.

    Raises
    ------
    DeviceError
        onnxruntime is missing or cannot load the encoder.
    """

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DeviceError(
                f"onnxruntime cannot be imported ({one_line(error)}); install it: pip install 'wireleak[device]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SILENT  # an error is raised, and would be printed as well
        try:
            self._session = onnxruntime.InferenceSession(
                str(manifest.encoder), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises types of its own
            raise DeviceError(
                f"ENCODER: onnxruntime cannot load {manifest.encoder}: {one_line(error)[:200]}"
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._shape = manifest.activation_shape

    def __call__(self, inputs: Floats) -> Floats:
        """Return the activations float32 (n, *activation_shape) of inputs (n, *input_shape).

        Raises
        ------
        DeviceError
            The activations have another shape than the manifest says, or are not finite.
        """
        try:
            activation: Floats = self._session.run(None, {self._input: inputs})[0]
        except Exception as error:  # onnxruntime raises types of its own
            raise DeviceError(f"ENCODER: cannot encode inputs of {inputs.shape}: {one_line(error)[:200]}") from error
        if activation.shape != (len(inputs), *self._shape):
            raise DeviceError(
                f"manifest.activation_shape: {list(self._shape)}, but the encoder returns "
                f"{list(activation.shape[1:])}; export it again"
            )
        if not np.isfinite(activation).all():
            raise DeviceError("ENCODER: an activation is not finite; check the input's scale")
        return activation
