"""Files of CLIP weights: what they are, whose names they use, what they were trained with."""

from mmap_model.weights.loading import LoadedWeights, load_weights

__all__ = ["LoadedWeights", "load_weights"]
