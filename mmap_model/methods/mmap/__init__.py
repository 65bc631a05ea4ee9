"""MmAP: multi-modal alignment prompts, group-shared and task-specific (paper, eq. 6-12)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, inf
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.class_texts import ClassTexts
from mmap_model.errors import ShapeError
from mmap_model.methods.base import Budget, Method, module_count, nearest_divisor, prompt_tokens, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class MmapSettings:
    """Shape and initialisation of MmAP; the default is the paper's budget (0.13M, two groups of four tasks).

    Attributes:
        prompt_length: b, tokens of one prompt (>= 1); each tower sees 2b, group-shared before task-specific.
        source_rows: m, a divisor of b.
        source_cols: n, a divisor of gcd(d_l, d_v).
        source_init: standard deviation of the source prompts P_s (paper: 0.02).
        scale_init: standard deviation of the scaling matrices M_l, M_v; None starts them at one when m = b
            and at N(0, 1) when m < b, where equal scales would tie rows for ever. The paper does not say.
        positions: ``original`` keeps the words' positions and gives prompts none; ``assembled`` numbers the
            assembled text, prompts included.
        modules: ``both`` group-shared and task-specific prompts, or only one of them (ablations of Table 3;
            the grouping probe is ``group`` with one group). Each tower then sees b tokens instead of 2b.
    """

    prompt_length: int = 14
    source_rows: int = 14
    source_cols: int = 128
    source_init: float = 0.02
    scale_init: float | None = None
    positions: Literal["original", "assembled"] = "original"
    modules: Literal["both", "group", "task"] = "both"


class Mmap(Method):
    name = "mmap"
    label = "MmAP"
    Settings = MmapSettings
    grouped = True
    budgets = (
        Budget(printed="0.13M", reading="two groups, 14 rows of 128: the paper does not give b, m, n"),
    )

    def check(self, settings: MmapSettings, architecture: Architecture) -> None:
        b, m, n = settings.prompt_length, settings.source_rows, settings.source_cols
        common = gcd(architecture.text.width, architecture.image.width)
        if b < 1:
            raise ShapeError(f"{b} is not a prompt length", where="prompt_length", fix="use 1 or more")
        if m < 1 or b % m:
            raise ShapeError(
                f"source_rows={m} does not divide prompt_length={b}", where="source_rows", fix=_choices(b)
            )
        if n < 1 or common % n:
            raise ShapeError(
                f"source_cols={n} does not divide {common}, the common divisor of the text width "
                f"{architecture.text.width} and the image width {architecture.image.width}",
                where="source_cols",
                fix=_choices(common),
            )
        if not 0 <= settings.source_init < inf:
            raise ShapeError(
                f"{settings.source_init} is not a standard deviation",
                where="source_init",
                fix="use 0 or more",
            )
        scale = settings.scale_init
        if scale is not None and (not 0 <= scale < inf or scale == settings.source_init == 0):
            raise ShapeError(
                f"scale_init={scale} with source_init={settings.source_init} gives no gradient a direction",
                where="scale_init",
                fix="use null or a positive standard deviation",
            )

    def fitted(self, settings: MmapSettings, architecture: Architecture) -> MmapSettings:
        common = gcd(architecture.text.width, architecture.image.width)
        rows = nearest_divisor(settings.source_rows, settings.prompt_length)
        return replace(settings, source_rows=rows, source_cols=nearest_divisor(settings.source_cols, common))

    def probed(self, settings: MmapSettings) -> MmapSettings:
        return replace(settings, modules="group")

    def texts(self, settings: MmapSettings, template: str) -> ClassTexts:
        inserted = prompt_tokens(settings.prompt_length, settings.modules)
        return ClassTexts(template, prompts=inserted if settings.positions == "assembled" else 0)

    def count(self, settings: MmapSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """K·(modules)·(m·n + (b/m)·(d_l/n + d_v/n)): source and scales per layer and module (eq. 6-7)."""
        self.check(settings, architecture)
        b, m, n = settings.prompt_length, settings.source_rows, settings.source_cols
        scales = (b // m) * (architecture.text.width // n + architecture.image.width // n)
        modules = module_count(settings.modules, tasks=tasks, groups=groups)
        return architecture.depth * modules * (m * n + scales)

    def build(self, settings: MmapSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.mmap.module import MmapModel

        self.check(settings, backbone.architecture)
        return MmapModel(settings, backbone, problem)


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def _choices(number: int) -> str:
    return "use one of " + ", ".join(map(str, divisors(number)))


register(Mmap())
