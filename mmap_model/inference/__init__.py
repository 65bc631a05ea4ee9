"""What was trained, as a classifier: artefacts on disk, and classifying with them."""

from mmap_model.inference.artefact import Artefact

__all__ = ["Artefact"]
