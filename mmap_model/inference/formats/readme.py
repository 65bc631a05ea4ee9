"""The few lines beside a file that runs without this software: how images become what it takes."""

from __future__ import annotations

from mmap_model.inference.trained import Trained
from mmap_model.preprocessing import Resize

README = "README.md"


def readme(trained: Trained, use: str) -> str:
    """What goes in, what is done to an image first, what comes out, and the lines of Python that run it."""
    backbone = trained.backbone
    size = backbone.image_size
    tasks = ", ".join(f"{index} {name!r}" for index, name in enumerate(trained.task_names))
    mean, std = (", ".join(f"{v:.8g}" for v in vs) for vs in (backbone.image_mean, backbone.image_std))
    how = resized(backbone.resize, size)
    return f"""# Image classifier

- Inputs: `pixels`, float32 [B, 3, {size}, {size}]; `task`, int64 [B], of each image: {tasks}.
- Preprocessing: turn the image upright as its EXIF says, make it RGB, {how},
  divide by 255, subtract the mean ({mean}) and divide by the standard deviation ({std}) of each channel.
- Output: `logits`, float32 [B, C]; a task's classes are in `artefact.json`, in this order, and beyond them
  stands -inf. The softmax of a row gives probabilities.

```python
{use}
```
"""


def resized(resize: Resize, size: int) -> str:
    """How an image becomes the square, in words."""
    how = f"({resize.interpolation}, antialiased)"
    if resize.mode == "squash":
        return f"resize it to {size} x {size} pixels {how} whatever its shape"
    if resize.mode == "longest":
        return (
            f"resize its longer side to {size} pixels {how}, put it into the middle of a square of grey "
            f"level {resize.fill}"
        )
    return f"resize its shorter side to {size} pixels {how}, cut out the central {size} x {size}"
