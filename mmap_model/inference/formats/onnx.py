"""One file that onnxruntime and other runtimes of ONNX run."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmap_model.errors import CheckpointError, ConfigurationError
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine
from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.formats.readme import README, readme
from mmap_model.inference.formats.torch_export import exported_program
from mmap_model.inference.trained import Trained

FILE = "model.onnx"
INPUTS, OUTPUT = ("pixels", "task"), "logits"
OPSET = 20
INSIDE = 1_500_000_000
"""Bytes of weights that are kept in the file itself, which cannot hold more than 2 GB."""
_USE = """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {"pixels": pixels, "task": task})"""
_NEXT_TO = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""onnxruntime's names of devices."""


class OnnxFormat(ExportFormat):
    """``DeployedClassifier`` with its weights; where these are large, beside it in ``model.onnx.data``."""

    name = "onnx"
    libraries = ("onnx", "onnxruntime", "onnxscript")
    extra = "onnx"

    def write(self, trained: Trained, folder: Path) -> None:
        deployed = trained.deployed
        held = sum(t.nbytes for t in (*deployed.parameters(), *deployed.buffers()))
        with _quiet():
            torch.onnx.export(
                exported_program(trained),
                f=folder / FILE,
                input_names=INPUTS,
                output_names=(OUTPUT,),
                dynamic_shapes={name: {0: "batch"} for name in INPUTS},
                opset_version=OPSET,
                external_data=held > INSIDE,
                dynamo=True,
                verbose=False,
            )
        (folder / README).write_text(readme(trained, _USE), encoding="utf-8")

    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        options.only_fp32(self.name)
        return OnnxEngine(folder / FILE, torch.device(options.device))


class OnnxEngine(InferenceEngine):
    """A session of onnxruntime."""

    kind = OnnxFormat.name
    dtype = torch.float32

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises ConfigurationError for a device that onnxruntime lacks, CheckpointError for no model."""
        import onnxruntime

        self.device = torch.device("cpu")  # pixels are handed over in the host's memory
        provider = _NEXT_TO.get(device.type)
        if provider not in onnxruntime.get_available_providers():
            raise ConfigurationError(
                f"onnxruntime here cannot compute on {device}",
                where="device",
                fix="use cpu, or install onnxruntime-gpu instead of onnxruntime",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        chosen: Any = (provider, {"device_id": device.index or 0}) if device.type == "cuda" else provider
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=[chosen])
        except Exception as error:  # its errors have no base of their own
            raise CheckpointError(
                f"onnxruntime {onnxruntime.__version__} cannot read it: {error}",
                where=str(path),
                fix="export it again",
            ) from error

    def logits(self, pixels: Tensor, task: Tensor) -> Tensor:
        (found,) = self._session.run([OUTPUT], {"pixels": pixels.numpy(), "task": task.numpy()})
        return torch.from_numpy(found)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the exporter's progress and its notes on libraries that are not needed."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # Both inputs' first axes are one, and so have one name, which the exporter warns of.
            warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
            # The exporter copies what torch itself has given up.
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
            yield
    finally:
        exporter.setLevel(level)
