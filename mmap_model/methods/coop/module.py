"""The trainable context of CoOp.

Legend: R replicates, N copies (1 or T), n context tokens, d_l text width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.methods.coop import CoopSettings
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import normal
from mmap_model.methods.problem import Problem


class CoopModel(CopiedModel):
    """The text is ``[SOS, context, name, EOT]``, numbered as assembled; the context runs through all layers.

    Images meet nothing trained: their features are constant.

    Attributes:
        context: [R, N, n, d_l].
    """

    evolve = True
    constant_images = True
    context: nn.Parameter

    def __init__(self, settings: CoopSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem.worded(settings.template),
            name="coop",
            per_task=settings.regime == "single",
            text_prompt_length=settings.prompt_length,
            positions="assembled",
        )
        shape = (settings.prompt_length, backbone.architecture.text.width)
        self.register_copies("context", lambda stream: normal(stream, shape, settings.prompt_init))
        self.start_at_words("context", settings.init_words)

    def text_prompts(self) -> Sequence[Tensor]:
        return self.for_texts(self.context.unsqueeze(2))

    def image_prompts(self) -> Sequence[Tensor]:
        return ()
