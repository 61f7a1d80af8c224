"""Write an encoder as ONNX, and check that onnxruntime computes what torch computes."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wireleak.lab.devices.errors import ExportError
from wireleak.lab.devices.precise import precise

# onnxruntime must not report its use to its makers; 1.28 does not by default, later versions do.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

INPUT, OUTPUT = "input", "activation"
OPSET = 20
TOLERANCE = 1e-5
# Batches of several sizes: a network whose export fixes the batch's size computes only one of them.
_BATCHES = (2, 1, 5)
Floats = npt.NDArray[np.float32]


def to_onnx(encoder: nn.Module, examples: Floats) -> bytes:
    """Return the encoder as ONNX with a batch of any size, input "input" and output "activation", both float32.

    Parameters
    ----------
    encoder : nn.Module
        It is exported in evaluation mode.
    examples : float32 (n, *input_shape)
        Inputs on which the export is compared with torch.

    Raises
    ------
    ExportError
        torch cannot export it, onnxruntime cannot run it, or their outputs differ by more than `TOLERANCE`.
    """
    encoder.eval()
    content = _exported(encoder, examples)
    try:
        _compare(encoder, content, examples)
    except ExportError:
        careful = precise(encoder)
        if careful is None:
            raise
        content = _exported(careful, examples)
        _compare(encoder, content, examples)
    return content


def _exported(encoder: nn.Module, examples: Floats) -> bytes:
    content = io.BytesIO()
    first = torch.from_numpy(_batch(examples, _BATCHES[0]))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the older exporter needs only onnx, and says that it is the older one
            torch.onnx.export(
                encoder,
                (first,),
                content,  # type: ignore[arg-type]  # a file is taken too, which torch's types do not say
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
    except Exception as error:  # torch's exporter raises many types, for layers of any author
        raise ExportError(
            f"export: torch cannot write this encoder as ONNX: {_line(error)}; choose another cut"
        ) from error
    return content.getvalue()


def _compare(encoder: nn.Module, model: bytes, examples: Floats) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and would be printed as well
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        pairs = []
        for size in _BATCHES:
            batch = _batch(examples, size)
            with torch.no_grad():
                pairs.append((session.run([OUTPUT], {INPUT: batch})[0], encoder(torch.from_numpy(batch)).numpy()))
    except Exception as error:  # onnxruntime raises types of its own, for any layer that it cannot run
        raise ExportError(
            f"export: onnxruntime cannot run this encoder as torch exports it: {_line(error)}; choose another cut"
        ) from error
    for computed, expected in pairs:
        if computed.shape != expected.shape:
            raise ExportError(
                f"export: onnxruntime returns {computed.shape} where torch returns {expected.shape}; choose another cut"
            )
        difference = float(np.abs(computed - expected).max(initial=0))
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
        if not difference <= allowed:
            raise ExportError(
                f"export: onnxruntime's activations differ from torch's by {difference:.2g}, more than {allowed:.2g}; "
                "choose another cut"
            )


def _batch(examples: Floats, size: int) -> Floats:
    return np.ascontiguousarray(np.resize(examples, (size, *examples.shape[1:])), np.float32)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
