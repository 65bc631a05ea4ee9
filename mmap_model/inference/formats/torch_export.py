"""One file that ``torch.export.load`` runs, without this software: the whole classifier but for decoding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from mmap_model.errors import CheckpointError, ConfigurationError
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine
from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.formats.readme import README, readme
from mmap_model.inference.trained import Trained

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FILE = "model.pt2"
_USE = """import torch
model = torch.export.load("model.pt2").module()
logits = model(pixels, task)"""


class TorchExportFormat(ExportFormat):
    """``DeployedClassifier`` as a program of torch operations, with its weights."""

    name = "torch-export"

    def write(self, trained: Trained, folder: Path) -> None:
        program = exported_program(trained)
        program.example_inputs = None  # would be a pickle in the file
        torch.export.save(program, folder / FILE)
        (folder / README).write_text(readme(trained, _USE), encoding="utf-8")

    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        options.only_fp32(self.name)
        try:
            program = torch.export.load(folder / FILE)
        except (RuntimeError, ValueError, OSError, KeyError, BadZipFile) as error:
            raise CheckpointError(
                f"torch {torch.__version__} cannot read it: {error}",
                where=str(folder / FILE),
                fix=f"use torch {artefact.versions.get('torch')}, which wrote it, or export it again",
            ) from error
        return ProgramEngine(self.name, program, torch.device(options.device))


class ProgramEngine(InferenceEngine):
    """An exported program in this process."""

    def __init__(self, kind: str, program: ExportedProgram, device: torch.device) -> None:
        self.kind, self.device = kind, device
        pixels = program.graph_signature.user_inputs[0]
        self.dtype = next(n.meta["val"].dtype for n in program.graph.nodes if n.name == pixels)
        if device.type != "cpu":
            program = _moved(program, device)
        self._module: nn.Module = program.module()

    @torch.no_grad()
    def logits(self, pixels: Tensor, task: Tensor) -> Tensor:
        return self._module(pixels, task)  # type: ignore[no-any-return]


def exported_program(trained: Trained) -> ExportedProgram:
    """``DeployedClassifier`` for any batch of one image or more, on the CPU.

    Raises:
        ConfigurationError: of a custom method that ``torch.export`` cannot follow.
    """
    deployed, backbone = trained.deployed, trained.backbone
    size, device = backbone.image_size, backbone.device
    # Two: with one image, torch takes a batch for one that is never longer.
    pixels = torch.zeros(2, 3, size, size, dtype=backbone.dtype, device=device)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(
            deployed,
            (pixels, torch.zeros(2, dtype=torch.int64, device=device)),
            dynamic_shapes={"pixels": {0: batch}, "task": {0: batch}},
        )
    except Exception as error:
        if type(trained.method).__module__.startswith("mmap_model."):
            raise
        raise ConfigurationError(
            f"torch.export cannot follow the model of {trained.method.name}: {_first_line(error)}",
            where="format",
            fix="keep its image_features or deployed to torch operations, without branches on values of "
            "tensors, or export with --format prompts",
        ) from error
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)  # names files of the machine that exports
    return program if device.type == "cpu" else _moved(program, torch.device("cpu"))


def _moved(program: ExportedProgram, device: torch.device) -> ExportedProgram:
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
