"""Faults of a machine that grants little."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scene import Scene

from kinds.base import Place, Row, fault, row, start_driver


@fault("ulimit -n 256", group="driver")
def few_files(place: Place) -> Row:
    return _limited(place.scene("few-files"), ("bash", "-c", 'ulimit -n 256; exec "$@"', "limited"))


@fault("64 MB of /dev/shm", group="driver")
def little_shared_memory(place: Place) -> Row:
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    return _limited(
        place.scene("little-shared-memory"), ("unshare", "--mount", "bash", "-c", mount, "limited")
    )


def _limited(scene: Scene, before: Sequence[str]) -> Row:
    """A driver under the limit; where it cannot finish, the same command without the limit does."""
    scene.strike()
    limited = start_driver(scene, *before)
    said, _ = limited.communicate(timeout=400)
    scene.say(said)
    complained = re.search(r"open files|ulimit|/dev/shm|shared memory", said)
    scene.mend()
    outcome = scene.run()
    how = "finished under it" if limited.returncode == 0 else f"ended with exit code {limited.returncode}"
    return row(
        scene,
        f"the study {how}",
        0.0 if limited.returncode == 0 else scene.next_epoch(scene.mended),
        outcome,
        told=r"open files|ulimit|/dev/shm|shared memory" if complained or limited.returncode else None,
    )
