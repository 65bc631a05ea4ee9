"""From probes to partitions: what is averaged, how agreement is measured, and that known groups are found."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mmap_model.backbone import BackboneSpec, load_backbone
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.data import Dataset, DatasetSpec, TaskInfo, open_dataset
from mmap_model.errors import ConfigurationError, NotFiniteError
from mmap_model.grouping import GramStack, probe_configuration, resolve_partition
from mmap_model.grouping.affinity import random_partition
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.zero_shot import ZeroShotSettings
from mmap_model.training import FusedRun

PAIRS = ((0, 2), (1, 3))


def planted(steps, noise=0.1, scale=(1, 1, 1, 1), seed=0):
    """Gram matrices of gradients with two common directions."""
    rng = np.random.default_rng(seed)
    grams = []
    for _ in steps:
        common = rng.normal(size=(2, 30))
        rows = np.stack([common[t % 2] + noise * rng.normal(size=30) for t in range(4)])
        rows *= np.array(scale)[:, None]
        grams.append(rows @ rows.T)
    stack = np.stack(grams)
    return GramStack(np.array(steps), {"prompts": stack, "parameters": 2 * stack})


def grouping(**options):
    return Grouping(**{"snapshot_every": 2} | options)


def resolve(wanted, grams=None, tasks=4, train_seed=1):
    return resolve_partition(wanted, grams, tasks=tasks, train_seed=train_seed)


def test_planted_groups_are_found_with_full_agreement():
    found = resolve(grouping(), planted(range(2, 21, 2)))
    assert found.partition == PAIRS
    assert found.agreement == found.bootstrap == 1.0 and found.snapshots == 10
    assert found.margin > 0 and found.second is not None
    assert any("number of groups was not" in note for note in found.notes)


def test_two_and_three_tasks_have_one_partition_and_nothing_measured():
    rng = np.random.default_rng(0)
    for tasks in (2, 3):
        rows = rng.standard_normal((5, tasks, 4))
        grams = GramStack(np.arange(2, 12, 2), {"prompts": rows @ rows.transpose(0, 2, 1)})
        (note,) = resolve(grouping(), grams, tasks=tasks).notes
        assert "all in one group" in note and "decides nothing" in note


def test_similarities_are_averaged_over_the_asked_snapshots():
    grams = planted(range(2, 21, 2))
    every = resolve(grouping(snapshot_every=10), grams)
    assert every.snapshots == 2
    assert np.allclose(every.similarity, grams.spaces["prompts"][[4, 9]].mean(0))
    parameters = resolve(grouping(space="parameters"), grams)
    assert np.allclose(parameters.similarity, 2 * grams.spaces["prompts"].mean(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_group_nothing(value):
    grams = planted(range(2, 21, 2))
    grams.spaces["prompts"][4, 1, 2] = value
    with pytest.raises(NotFiniteError, match="lower grouping"):
        resolve(grouping(), grams)


def test_cosine_ignores_the_size_of_gradients():
    loud, plain = planted([2, 4], scale=(100, 1, 1, 0.01)), planted([2, 4])
    ours, theirs = (resolve(grouping(similarity="cosine"), g).similarity for g in (loud, plain))
    assert np.allclose(ours, theirs) and np.allclose(np.diag(ours), 1)


def test_a_vanished_gradient_is_similar_to_nothing():
    gram = np.ones((1, 4, 4))
    gram[:, 0] = gram[:, :, 0] = 0
    found = resolve(grouping(similarity="cosine"), GramStack(np.array([2]), {"prompts": gram}))
    assert np.isfinite(found.similarity).all() and (found.similarity[0] == 0).all()


def test_no_snapshot_is_an_error_that_says_what_to_do():
    with pytest.raises(ConfigurationError, match=r"snapshot_every.*multiple of 100"):
        resolve(grouping(snapshot_every=100), planted([2, 4]))


def test_grams_survive_the_file():
    grams = planted([2, 4])
    again = GramStack.from_bytes(grams.to_bytes())
    assert np.array_equal(again.steps, grams.steps) and again.tasks == 4
    for space in grams.spaces:
        assert np.array_equal(again.spaces[space], grams.spaces[space])


def test_modes_that_measure_nothing():
    assert resolve(grouping(mode="single")).partition == ((0, 1, 2, 3),)
    assert resolve(grouping(mode="fixed", partition=((1, 3), (2, 0)))).partition == PAIRS
    assert resolve(grouping(), tasks=1).partition == ((0,),)
    with pytest.raises(ConfigurationError, match="names 4 tasks, the dataset has 5"):
        resolve(grouping(mode="fixed", partition=PAIRS), tasks=5)


def test_random_partitions_are_uniform_over_their_size_profile():
    found = [random_partition(4, None, seed) for seed in range(600)]
    assert {p: found.count(p) for p in set(found)} == pytest.approx(
        dict.fromkeys([((0, 1), (2, 3)), PAIRS, ((0, 3), (1, 2))], 200), abs=50
    )
    assert random_partition(4, None, 7) == random_partition(4, None, 7)
    assert sorted(map(len, random_partition(5, None, 1))) == [2, 3]
    assert sorted(map(len, random_partition(7, 3, 1))) == [2, 2, 3]
    with pytest.raises(ConfigurationError, match="5 groups"):
        resolve(grouping(mode="random", groups=5))


def test_probe_is_shared_by_trials_unless_it_takes_their_shape():
    small = Point(method="mmap", settings=MmapSettings(prompt_length=2, source_rows=2), grouping=grouping())
    large = Point(method="mmap", settings=MmapSettings(), recipe=Recipe(lr=0.1), grouping=grouping())
    shared = probe_configuration(grouping(), small, tasks=4)
    assert shared == probe_configuration(grouping(), large, tasks=4)
    assert shared.partition == ((0, 1, 2, 3),) and shared.settings.modules == "group"
    own = probe_configuration(grouping(probe=Probe(same=True)), large, tasks=4)
    assert own.recipe.lr == 0.1 and own.settings.prompt_length == 14
    other = Point(method="zero_shot", settings=ZeroShotSettings())
    with pytest.raises(ConfigurationError, match="zero_shot"):
        probe_configuration(grouping(probe=Probe(same=True)), other, tasks=4)


def test_report_is_json():
    json.dumps(resolve(grouping(), planted([2, 4])).to_dict(), allow_nan=False)


CLASSES = ("mug", "fan", "desk lamp", "sea turtle")
RECIPE = Recipe(epochs=6, batch_size=24, lr=0.05, warmup_epochs=1, augment=False)
"""Every step sees all images: on a random CLIP, small augmented batches drown what sets domains apart."""
SETTINGS = MmapSettings(prompt_length=2, source_rows=2, source_cols=8, modules="group")


@pytest.fixture(scope="module")
def halves(pattern_dataset):
    """Two domains, each split into two tasks with images of their own."""
    classes = dict.fromkeys(CLASSES, 12)
    domains = {"warm 1": "warm", "cold 1": "cold", "warm 2": "warm", "cold 2": "cold"}
    return pattern_dataset({task: (domain, classes) for task, domain in domains.items()})


def probe_cells(seeds=(1, 2, 3), kind="probe"):
    configuration = Configuration(method="mmap", settings=SETTINGS, recipe=RECIPE, partition=((0, 1, 2, 3),))
    return [
        Cell(
            kind=kind,
            configuration=configuration,
            split=Split(shots=6),
            seeds=Seeds.both(seed),
            dataset="0" * 32,
            backbone="b",
            snapshot_every=2 if kind == "probe" else None,
        )
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def probed(tiny_backbone, halves):
    run = FusedRun(probe_cells(), tiny_backbone, halves)
    list(run.epochs())
    return run


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("space", ["prompts", "parameters"])
def test_two_halves_of_two_domains_are_recovered_as_pairs(probed, similarity, space):
    """The positive control: the probe is really trained, and the answer is known."""
    for result in probed.finish().values():
        grams = GramStack.from_bytes(result.files["gram.safetensors"])
        found = resolve(grouping(similarity=similarity, space=space), grams)
        assert found.partition == PAIRS and found.margin > 0
        assert found.agreement == found.bootstrap == 1.0


def test_snapshots_begin_after_the_warm_up(probed):
    for result in probed.finish().values():
        grams = GramStack.from_bytes(result.files["gram.safetensors"])
        assert grams.steps.tolist() == [2, 4, 6]
        for stack in grams.spaces.values():
            assert stack.shape == (3, 4, 4) and stack.dtype == np.float64
            assert np.allclose(stack, stack.transpose(0, 2, 1))
            assert (np.linalg.eigvalsh(stack) > -1e-9 * np.abs(stack).max()).all()
        assert "prompts.safetensors" not in result.files


def test_measuring_does_not_change_the_training(tiny_backbone_fp64, halves):
    probes, plain = ([replace(c, precision="fp64") for c in probe_cells((1,), k)] for k in ("probe", "train"))
    losses = []
    for cells in (probes, plain):
        reports = list(FusedRun(cells, tiny_backbone_fp64, halves).epochs())
        losses.append([r.cells[cells[0].key]["nll"] for r in reports])
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_a_resumed_probe_keeps_its_snapshots(tiny_backbone, halves, probed):
    first = FusedRun(probe_cells(), tiny_backbone, halves)
    for report in first.epochs():
        if report.epoch == 2:
            break
    resumed = FusedRun(probe_cells(), tiny_backbone, halves)
    resumed.restore(first.state())
    list(resumed.epochs())
    ours, theirs = resumed.finish(), probed.finish()
    for key in theirs:
        assert ours[key].files == theirs[key].files


class Halves(Dataset):
    """Every domain of another dataset as two tasks: its even and its odd images."""

    name = "halves"
    manifest = "0" * 32

    def __init__(self, whole, domains):
        self._whole, self.image_size = whole, whole.image_size
        self._of = {f"{d} {half}": (d, half) for half in (0, 1) for d in domains}
        self.tasks = tuple(TaskInfo(name, whole.task(d).classes) for name, (d, _) in self._of.items())

    def _own(self, task):
        domain, half = self._of[task]
        return domain, np.arange(half, len(self._whole.labels(domain)), 2)

    def labels(self, task):
        domain, own = self._own(task)
        return self._whole.labels(domain)[own]

    def sample_ids(self, task):
        domain, own = self._own(task)
        return np.array(self._whole.sample_ids(domain))[own].tolist()

    def images(self, task, indices, size=None):
        domain, own = self._own(task)
        return self._whole.images(domain, own[indices], size)

    def training_images(self, task, indices, size):
        domain, own = self._own(task)
        return self._whole.training_images(domain, own[indices], size)

    @property
    def augmentation(self):
        return self._whole.augmentation


@pytest.mark.slow
def test_halves_of_two_benchmark_domains_are_recovered_with_the_shipped_clip():
    """As users run it: the default probe, batches of 16, augmentation."""
    wanted = Grouping(snapshot_every=2)
    probe = probe_configuration(wanted, Point(method="mmap", settings=MmapSettings()), tasks=4)
    cell = replace(probe_cells((1,))[0], configuration=replace(probe, recipe=replace(probe.recipe, epochs=3)))
    halves = Halves(open_dataset(DatasetSpec()), ("clipart", "sketch"))
    run = FusedRun([cell], load_backbone(BackboneSpec()), halves)
    list(run.epochs())
    grams = GramStack.from_bytes(run.finish()[cell.key].files["gram.safetensors"])
    for space in ("prompts", "parameters"):
        for similarity in ("dot", "cosine"):
            found = resolve(replace(wanted, space=space, similarity=similarity), grams)
            assert found.partition == PAIRS
            assert found.bootstrap >= 0.9
