"""Office-Home: 15,588 images of 65 classes in four domains (Venkateswara et al., CVPR 2017).

Read as its archive unpacks, or as either of Dassl's layouts (``office_home``: lower-case domains;
``office_home_dg``: a ``train`` and a ``val`` folder in each domain, taken together). All three give the same
ids, so the same draws and the same cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmap_model.data.dataset import DatasetSpec, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import loose
from mmap_model.data.sources.files import (
    FileSource,
    FileTask,
    ImageFile,
    file_task,
    image_root,
    one_of,
    readable,
)
from mmap_model.data.sources.listing import image_files, named, parts_of, strays, subfolders
from mmap_model.data.sources.registry import register_source
from mmap_model.errors import DatasetError, nearest

PUBLISHED = {"art": 2_427, "clipart": 4_365, "product": 4_439, "real_world": 4_357}
"""Images per domain."""

FOLDERS = {"art": "Art", "clipart": "Clipart", "product": "Product", "real_world": "Real World"}
"""Domains as the archive names them."""

CLASSES = tuple(
    """Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair Clipboards
    Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers Folder Fork
    Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug Notebook Oven
    Pan Paper_Clip Pen Pencil Postit_Notes Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver
    Shelf Sink Sneakers Soda Speaker Spoon Table Telephone ToothBrush Toys Trash_Can TV Webcam""".split()  # noqa: SIM905 (a literal would take a line per class)
)
"""Class folders in the order of their labels: alphabetical whatever the case (``TV`` after ``Trash_Can``)."""

SHAPE = """:
  <root>/Art/Alarm_Clock/00001.jpg …      2,427 images in 65 class folders
  <root>/Clipart/…                        4,365
  <root>/Product/…                        4,439
  <root>/Real World/… (or Real_World)     4,357
as the archive unpacks, or Dassl's office_home or office_home_dg"""

_ALIASES = {**{loose(name): name for name in PUBLISHED}, "real": "real_world"}


def open_office_home(spec: DatasetSpec) -> FileSource:
    """The domains ``art``, ``clipart``, ``product`` and ``real_world``, found under any of their names."""
    root = image_root(spec, SHAPE)
    chosen = choose_tasks(spec, tuple(PUBLISHED))
    base, domains = _domains(root, chosen)
    wanted = {loose(name) for name in spec.classes or CLASSES}
    faults: list[Fault] = []
    tasks = [_list(base, domains[task], task, wanted, faults) for task in chosen]
    source = FileSource("office_home", base, tasks, faults)
    source.aliases = _ALIASES
    if spec.classes is None:
        source.published = sum(PUBLISHED[task] for task in chosen)
    return source


def _domains(root: Path, chosen: tuple[str, ...]) -> tuple[Path, Mapping[str, str]]:
    """The folder that holds the domains (the root or one in it), and the folder of each domain."""
    places = [root, *(root / name for name in subfolders(root))]
    found = {place: one_of(subfolders(place), _ALIASES) for place in places}
    base = max(places, key=lambda place: sum(task in found[place] for task in chosen))
    for task, names in found[base].items():
        if len(names) > 1:
            raise DatasetError(
                f"{base} has {' and '.join(map(repr, names))}, both of domain {task!r}",
                where="dataset.root",
                fix="keep one of them",
            )
    missing = [FOLDERS[task] for task in chosen if task not in found[base]]
    if missing:
        here = ", ".join(subfolders(base)) or "no folder"
        raise DatasetError(
            f"{base} lacks the folder{'s' * (len(missing) > 1)} {', '.join(missing)}; it holds {here}",
            where="dataset.root",
            fix=f"lay Office-Home out as{SHAPE}",
        )
    return base, {task: names[0] for task, names in found[base].items()}


def _list(base: Path, domain: str, task: str, wanted: set[str], faults: list[Fault]) -> FileTask:
    canonical = {loose(name): name for name in CLASSES}
    images: dict[str, list[ImageFile]] = {}
    folders: dict[tuple[str, str], str] = {}
    for part in parts_of(base / domain):
        faults += strays(base, f"{domain}/{part}" if part else domain, task)
        for folder in subfolders(base / domain / part):
            name = canonical.get(loose(folder))
            place = f"{domain}/{part}/{folder}" if part else f"{domain}/{folder}"
            if name is None:
                problem = f"{folder!r} is not a class of Office-Home; {nearest(folder, CLASSES)}"
                faults.append(Fault("unknown_class", problem, str(base / place), task))
            elif (part, name) in folders:
                problem = f"{folders[part, name]!r} and {folder!r} are folders of one class"
                faults.append(Fault("same_class", problem, str(base / place), task))
            else:
                folders[part, name] = folder
                others = images.setdefault(name, [])
                others.extend(named(image_files(base, place, faults, task), part, others))
    for name in CLASSES:
        if not images.get(name) and loose(name) in wanted:
            problem = f"domain {task!r} has no image of class {name}"
            faults.append(Fault("missing_class", problem, str(base / domain / name), task))
    present = [name for name in CLASSES if images.get(name)]
    classes = tuple(readable(name).lower() for name in present)
    ordered = [sorted(images[name], key=lambda image: image.name) for name in present]
    return file_task(TaskInfo(task, classes), classes, present, ordered)


register_source("office_home", open_office_home, _ALIASES)
