"""Multi-modal alignment prompts (MmAP) for several related image tasks on a frozen CLIP.

The science only: backbones, prompted forwards, tuning methods, data and few-shot draws, task grouping, and
the training of one batch of cells. It knows nothing of clusters, searches or experiment trackers.
"""
