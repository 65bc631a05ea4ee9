"""The prompted forward over open_clip's own blocks: discarded prompts act only as keys and values."""

from mmap_model.forward.class_prompts import ClassPrompts
from mmap_model.forward.image import encode_images
from mmap_model.forward.text import encode_classes

__all__ = ["ClassPrompts", "encode_classes", "encode_images"]
