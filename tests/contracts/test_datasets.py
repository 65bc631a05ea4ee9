"""What every dataset must do. A new one adds a row to `SPECS`."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from mmap_model.data import DatasetSpec, dataset_names, open_dataset
from mmap_model.data.generated import write_coop, write_mini_domainnet, write_office_home

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "image_list.py"


@pytest.fixture(scope="module")
def image_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for domain, classes in (("art", ("mug", "desk_lamp")), ("photo", ("mug", "desk_lamp", "tv"))):
        for name in classes:
            for n in range(4):
                path = root / domain / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (20 + n, 30, 3), np.uint8)).save(path)
    return root


def office_home(tree):
    root = tree.parent / f"{tree.name}-office-home"
    write_office_home(root, tasks=("art", "real_world"), classes=("Alarm_Clock", "TV"), per_class=4)
    return DatasetSpec(
        name="office_home", root=str(root), tasks=("art", "real_world"), classes=("alarm clock", "tv")
    )


def mini_domainnet(tree):
    root = tree.parent / f"{tree.name}-mini-domainnet"
    write_mini_domainnet(root, tasks=("real", "sketch"), classes=("ant", "cell_phone"), per_class=4)
    return DatasetSpec(name="mini_domainnet", root=str(root), tasks=("real", "sketch"))


def coop(tree):
    root = tree.parent / f"{tree.name}-coop"
    write_coop(root, tasks=("fgvc_aircraft", "dtd"), classes=3, per_class=4)
    return DatasetSpec(name="coop", root=str(root), tasks=("fgvc_aircraft", "dtd"))


def domainnet(tree):
    root = Path(mini_domainnet(tree.with_name("full")).root)
    (root / "splits_mini").rename(root / "splits")
    return DatasetSpec(name="domainnet", root=str(root), tasks=("sketch", "real"))


def table(tree):
    rows = [
        {"image": path.read_bytes(), "label": path.parent.name, "task": path.parents[1].name}
        for path in sorted(tree.rglob("*.png"))
    ]
    path = tree.parent / f"{tree.name}.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return DatasetSpec(name="table", root=str(path))


def own(tree):
    """The images of a tree in the table of the example of docs/custom_layout.md."""
    root = tree.parent / f"{tree.name}-listed"
    (root / "all").mkdir(parents=True)
    lines = ["file,class,task"]
    for path in sorted(tree.rglob("*.png")):
        task, kind, name = path.parts[-3:]
        shutil.copy(path, root / "all" / f"{task}-{kind}-{name}")
        lines.append(f"all/{task}-{kind}-{name},{kind},{task}")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    return DatasetSpec(name=f"{EXAMPLE}:ImageList", root=str(root))


SPECS = {
    "symbols": lambda tree: DatasetSpec(),
    "symbols_groups": lambda tree: DatasetSpec(name="symbols_groups"),
    "folder": lambda tree: DatasetSpec(name="folder", root=str(tree)),
    "office_home": office_home,
    "mini_domainnet": mini_domainnet,
    "domainnet": domainnet,
    "coop": coop,
    "table": table,
    "own": own,
}


def test_every_registered_dataset_is_checked():
    assert set(SPECS) == {*dataset_names(), "own"}


@pytest.fixture(scope="module", params=sorted(SPECS))
def spec(request, image_tree):
    return SPECS[request.param](image_tree)


@pytest.fixture(scope="module")
def dataset(spec):
    return open_dataset(spec)


def test_opening_twice_gives_the_same_data(spec, dataset):
    again = open_dataset(spec)
    assert again.manifest == dataset.manifest and len(dataset.manifest) == 32
    assert again.summary == dataset.summary
    for task in dataset.tasks:
        assert list(again.sample_ids(task.name)) == list(dataset.sample_ids(task.name))


def test_labels_and_sample_ids_fit_the_class_lists(dataset):
    for task, counts in zip(dataset.tasks, dataset.summary.images_per_class, strict=True):
        labels, ids = dataset.labels(task.name), dataset.sample_ids(task.name)
        assert labels.dtype == np.int64 and set(labels.tolist()) == set(range(len(task.classes)))
        assert len(ids) == len(labels) == len(set(ids)) == sum(counts)
        assert len(set(task.classes)) == len(task.classes) and all("_" not in c for c in task.classes)


def test_images_do_not_depend_on_the_order_they_are_asked_in(dataset):
    for task in dataset.tasks:
        pixels = dataset.images(task.name, np.array([3, 0, 3]), 16)
        assert pixels.dtype == torch.uint8 and pixels.shape == (3, 3, 16, 16)
        assert torch.equal(pixels[0], pixels[2])
        assert torch.equal(dataset.images(task.name, np.array([0]), 16)[0], pixels[1])


def test_default_image_size(dataset):
    side = dataset.image_size
    assert dataset.images(dataset.tasks[0].name, np.array([1])).shape == (1, 3, side, side)


def test_training_images_share_one_canvas(dataset):
    task = dataset.tasks[0].name
    wanted = [np.array([0, 2]), *(np.array([1]) for _ in dataset.tasks[1:])]
    if (pixels := dataset.training_pixels(wanted, 16)) is not None:
        rows = np.arange(len(pixels))
        assert len(rows) == 1 + len(dataset.tasks)
        kept = np.array([image.shape[:2] for image in pixels.images(rows)])
        assert (kept >= 1).all() and (kept <= pixels.extents(rows)).all()
        return
    first, extents = dataset.training_images(task, np.array([0, 2]), 16)
    second, _ = dataset.training_images(task, np.array([1]), 16)
    assert first.dtype == torch.uint8 and first.shape[1:] == second.shape[1:]
    assert first.shape[2] == first.shape[3] and extents.shape == (2, 2)
    assert (extents >= 1).all() and (extents <= first.shape[-1]).all()


def test_augmentation_keeps_crops_inside(dataset):
    noise = torch.rand(64, dataset.augmentation.noise, generator=torch.Generator().manual_seed(0))
    extents = torch.tensor([[20, 30]]).expand(64, 2)
    boxes, _ = dataset.augmentation.crops(noise, extents)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 20 + 1e-4).all() and (boxes[:, 1] + boxes[:, 3] <= 30 + 1e-4).all()
