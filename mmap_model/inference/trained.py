"""What is exported: one replicate's trained model with everything that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mmap_model.backbone import Backbone
from mmap_model.checkpoint import PromptCheckpoint, load_prompts, read_checkpoint
from mmap_model.errors import ConfigurationError, nearest
from mmap_model.inference.tower import DeployedClassifier
from mmap_model.methods import Method, Problem, get_method
from mmap_model.methods.model import TunedModel


@dataclass(frozen=True)
class Trained:
    """A checkpoint, loaded.

    Attributes:
        files: ``prompts.safetensors`` and ``prompts.json``, as ``pack_prompts`` made them.
        checkpoint: what the latter says.
        model: of one replicate.
        backbone: that it runs on.
        tasks: indices of those that are exported, in this order.
    """

    files: Mapping[str, bytes]
    checkpoint: PromptCheckpoint
    model: TunedModel
    backbone: Backbone
    tasks: tuple[int, ...]

    @classmethod
    def of(
        cls,
        files: Mapping[str, bytes],
        backbone: Backbone,
        tasks: Sequence[str] | None = None,
        where: str = "checkpoint",
    ) -> Trained:
        """Load a checkpoint.

        Args:
            files: as from ``pack_prompts`` or a finished cell.
            backbone: that it was trained on.
            tasks: names of those to export, None for all.
            where: folder or cell, for messages.

        Raises:
            CheckpointError: damaged, or trained on another backbone.
            ConfigurationError: no such task, or a method that cannot be found.
        """
        checkpoint = read_checkpoint(files, where)
        known = list(checkpoint.tasks)
        for name in tasks or ():
            if name not in known:
                raise ConfigurationError(f"there is no task {name!r}", where="task", fix=nearest(name, known))
        chosen = tuple(known.index(name) for name in dict.fromkeys(tasks or known))
        return cls(files, checkpoint, load_prompts(files, backbone, where), backbone, chosen)

    @property
    def method(self) -> Method:
        return get_method(self.checkpoint.configuration.method)

    @property
    def task_names(self) -> list[str]:
        """Of the tasks that are exported."""
        names = list(self.checkpoint.tasks)
        return [names[task] for task in self.tasks]

    @property
    def template(self) -> str:
        """Of class prompts, as the recipe has it."""
        return self.checkpoint.configuration.recipe.template

    def reworded(self, task: int, classes: Sequence[str], template: str | None) -> TunedModel:
        """The same model with other classes of one task, by its number among all.

        Raises:
            ConfigurationError: what the method trains has another shape with other classes.
        """
        configuration = self.checkpoint.configuration
        settings = configuration.settings
        if template is not None and hasattr(settings, "template"):  # a method with a template of its own
            settings = replace(settings, template=template)
        lists = list(self.checkpoint.tasks.values())
        lists[task] = tuple(classes)
        problem = Problem(
            classes=lists,
            template=template or self.template,
            partitions=[configuration.partition],
            train_seeds=[0],
            templates=None if template else configuration.recipe.templates_of(list(self.checkpoint.tasks)),
            images=self.checkpoint.images,
        )
        model = self.method.build(settings, self.backbone, problem)
        state = self.model.replicate_state(0)
        found, wanted = ({n: t.shape for n, t in s.items()} for s in (state, model.replicate_state(0)))
        if found != wanted:
            raise ConfigurationError(
                f"what {self.method.name} trains depends on the number of classes",
                where="classes",
                fix=f"set new_classes of {self.method.name} to zero_shot or refused",
            )
        model.load_replicate_state(0, state)
        return model.eval()  # what drops out in training does not here

    def templates_of(self, task: int) -> Sequence[str]:
        """Texts whose features are averaged, of a task by its number among all."""
        found = self.checkpoint.configuration.recipe.templates_of(list(self.checkpoint.tasks))
        return [self.template] if found is None else found[task]

    @cached_property
    def deployed(self) -> DeployedClassifier:
        """The forward that every format holds."""
        return DeployedClassifier.of(self.model, self.tasks)
