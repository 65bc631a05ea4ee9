"""Images named in a table: ``images.csv`` in the root, with the columns task, class and file."""

from __future__ import annotations

import csv
from collections import defaultdict

from mmap_model.data import DatasetSpec, TaskInfo
from mmap_model.data.dataset import choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.files import FileSource, ImageFile, file_task, image_root, readable
from mmap_model.errors import DatasetError

COLUMNS = ("task", "class", "file")


class ImageList(FileSource):
    name = "image_list"

    def __init__(self, spec: DatasetSpec) -> None:
        root = image_root(spec, ", which holds images.csv and the files that it names")
        table = root / "images.csv"
        if not table.is_file():
            raise DatasetError(f"{table} does not exist", where="dataset.root", fix="write it")
        images: dict[str, dict[str, list[ImageFile]]] = defaultdict(lambda: defaultdict(list))
        faults = []
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not {*COLUMNS} <= {*(rows.fieldnames or ())}:
                raise DatasetError(
                    f"{table} has the columns {rows.fieldnames}",
                    where="dataset.root",
                    fix=f"name its columns {', '.join(COLUMNS)}",
                )
            for row in rows:
                task, kind, path = (row[column] for column in COLUMNS)
                name = path.replace("/", "-")
                if (root / path).is_file():
                    images[task][kind].append(ImageFile(name, path, (root / path).stat().st_size))
                else:
                    problem, image = f"{path} is listed and not there", f"{task}/{kind}/{name}"
                    faults.append(Fault("missing_file", problem, str(table), task, image))
        tasks = []
        for task in choose_tasks(spec, sorted(images)):
            classes = sorted(images[task])
            names = tuple(readable(name) for name in classes)
            found = [sorted(images[task][name], key=lambda image: image.name) for name in classes]
            tasks.append(file_task(TaskInfo(task, names), names, classes, found))
        super().__init__(self.name, root, tasks, faults)
