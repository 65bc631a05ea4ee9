"""Draws nest over shots, keep test images, ignore the order of tasks and classes, and never overlap."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.configuration import Split
from mmap_model.data.dataset import OfficialSplit, TaskInfo
from mmap_model.data.draws import draw, draw_task, part_sizes
from mmap_model.errors import DatasetError

counts = st.lists(st.integers(1, 40), min_size=1, max_size=6)
seeds = st.integers(0, 5)


def labels_of(sizes, order_seed=None):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return labels if order_seed is None else np.random.default_rng(order_seed).permutation(labels)


def drawn(labels, shots, seed=1, *, names=None, task="sketch", **options):
    names = names or [f"class {c}" for c in range(labels.max() + 1)]
    split = options.pop("split", None) or Split(shots=shots)
    return draw(labels, dataset="d", task=task, classes=names, split=split, draw_seed=seed, **options)


@settings(max_examples=60, deadline=None)
@given(counts, st.lists(st.integers(1, 12), min_size=2, max_size=4, unique=True), seeds, st.integers(0, 3))
def test_shots_nest_and_test_images_stay(sizes, shots, seed, order_seed):
    labels = labels_of(sizes, order_seed)
    draws = [drawn(labels, k, seed, largest_shots=max(shots)) for k in sorted(shots)]
    for smaller, larger in pairwise(draws):
        assert set(smaller.train) <= set(larger.train)
        assert set(smaller.validation) <= set(larger.validation)
        assert np.array_equal(smaller.test, larger.test)


@settings(max_examples=60, deadline=None)
@given(
    counts, st.integers(1, 12), st.none() | st.integers(12, 16), seeds, st.sampled_from(["search", "paper"])
)
def test_parts_are_disjoint_and_leave_a_test_image_per_class(sizes, shots, largest, seed, protocol):
    labels = labels_of(sizes, 0)
    found = drawn(labels, shots, seed, largest_shots=largest, protocol=protocol)
    together = np.concatenate([found.train, found.validation, found.test])
    assert len(set(together.tolist())) == len(together)
    assert set(labels[found.test]) == set(range(len(sizes)))
    for label, size in enumerate(sizes):
        train, validation, test = (
            int((labels[p] == label).sum()) for p in (found.train, found.validation, found.test)
        )
        if protocol == "paper":
            assert (train, validation, test) == (min(shots, size - 1), 0, size - min(shots, size - 1))
            continue
        top = max(shots, largest or 0)
        if size >= top + min(top, 4) + 1:
            assert (train, validation) == (shots, min(shots, 4))
            assert test == min(size // 2, size - top - min(top, 4))
        else:
            assert (train >= 1) == (size >= 2)
            assert (validation >= 1) == (size >= 3)
            assert train <= shots and validation <= min(shots, 4)


def test_embedded_benchmark_sizes():
    labels = labels_of([30] * 65)
    for shots, validation in [(1, 1), (3, 3), (6, 4), (12, 4)]:
        found = drawn(labels, shots, largest_shots=12)
        assert (len(found.train), len(found.validation)) == (65 * shots, 65 * validation)
        assert len(found.test) == 65 * 14
        assert found.labelled == 65 * (shots + validation)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(6, 20), min_size=2, max_size=5), seeds, st.randoms())
def test_a_class_is_drawn_alike_whatever_its_place_in_the_list(sizes, seed, random):
    order = list(range(len(sizes)))
    random.shuffle(order)
    names = [f"class {c}" for c in order]
    labels = labels_of(sizes)
    renamed = np.array([order.index(c) for c in labels])
    assert np.array_equal(drawn(labels, 3, seed).train, drawn(renamed, 3, seed, names=names).train)


def test_a_class_is_drawn_alike_whatever_the_other_classes():
    alone = drawn(labels_of([10]), 3)
    beside = drawn(labels_of([10, 25]), 3)
    assert np.array_equal(alone.train, beside.train[:3])


def test_tasks_seeds_and_datasets_draw_independently():
    labels = labels_of([50] * 20)
    draws = {
        "other task": drawn(labels, 6, task="photo").train,
        "other seed": drawn(labels, 6, seed=2).train,
        "same": drawn(labels, 6).train,
        "other dataset": draw(
            labels,
            dataset="e",
            task="sketch",
            classes=[f"class {c}" for c in range(20)],
            split=Split(shots=6),
            draw_seed=1,
        ).train,
    }
    assert len({d.tobytes() for d in draws.values()}) == 4
    overlap = len(set(draws["same"]) & set(draws["other task"]))
    assert overlap == pytest.approx(120 * 6 / 50, abs=20)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(4, 60), min_size=1, max_size=6), st.floats(1, 50))
def test_percentages_are_taken_of_every_class(sizes, percent):
    labels = labels_of(sizes)
    found = drawn(labels, None, split=Split(percent=percent), protocol="paper")
    for label, size in enumerate(sizes):
        share = (labels[found.train] == label).sum()
        assert share == max(1, int(np.floor(size * percent / 100 + 0.5)))


def test_draws_are_frozen():
    """The first images drawn may never change: every recorded cell depends on them."""
    found = drawn(labels_of([30, 30]), 3, seed=1, largest_shots=6)
    assert found.train.tolist() == FROZEN_TRAIN
    assert found.validation.tolist() == FROZEN_VALIDATION
    assert found.test[:15].tolist() == FROZEN_TEST


FROZEN_TRAIN = [3, 18, 23, 31, 36, 41]
FROZEN_VALIDATION = [25, 26, 27, 35, 48, 51]
FROZEN_TEST = [1, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 20, 21, 22, 24]


def test_largest_shots_below_the_split_is_refused():
    with pytest.raises(DatasetError, match="largest_shots=3"):
        drawn(labels_of([30]), 6, largest_shots=3)


def test_a_class_without_images_is_refused():
    with pytest.raises(DatasetError, match="'class 1'"):
        drawn(np.array([0, 0, 2, 2]), 1, names=["class 0", "class 1", "class 2"])


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(1, 12), seeds)
def test_the_paper_protocol_uses_every_image_once(sizes, shots, seed):
    labels = labels_of(sizes, 0)
    found = drawn(labels, shots, seed, protocol="paper")
    together = np.concatenate([found.train, found.validation, found.test])
    assert sorted(together.tolist()) == list(range(len(labels)))


study_splits = st.lists(
    st.one_of(
        st.integers(1, 12).map(lambda k: Split(shots=k)),
        st.sampled_from([1, 5, 10, 20, 33.3, 50, 80, 99]).map(lambda p: Split(percent=p)),
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


def study_draws(sizes, splits, draw_seeds, **options):
    """The draws of a study of one task, by split and seed."""
    labels = labels_of(sizes, 0)
    largest = {
        "largest_shots": max((s.shots for s in splits if s.shots is not None), default=None),
        "largest_percent": max((s.percent for s in splits if s.percent is not None), default=None),
    }
    return labels, {
        (split, seed): drawn(labels, None, seed, split=split, **largest, **options)
        for split in splits
        for seed in draw_seeds
    }


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 5), st.integers(1, 60)), min_size=1, max_size=5),
    study_splits,
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
)
def test_no_test_image_trains_or_validates_at_any_seed_or_split_of_a_study(sizes, splits, draw_seeds):
    labels, draws = study_draws(sizes, splits, draw_seeds)
    first = next(iter(draws.values()))
    tested = set(first.test.tolist())
    assert set(labels[first.test]) == set(range(len(sizes))), "every class is tested"
    for found in draws.values():
        assert found.test.tolist() == first.test.tolist()
        assert not tested & {*found.train.tolist(), *found.validation.tolist()}
    for seed in draw_seeds:
        own = [draws[split, seed] for split in splits]
        train, validation = (
            set().union(*(getattr(d, p).tolist() for d in own)) for p in ("train", "validation")
        )
        assert not train & validation, "what one split trains on, no other validates with"
        by_size = sorted(own, key=lambda d: len(d.train))
        for label in range(len(sizes)):
            parts = [set(d.train[labels[d.train] == label].tolist()) for d in by_size]
            by_count = sorted(parts, key=len)
            assert all(a <= b for a, b in pairwise(by_count)), "the training images of splits nest"
            held = [set(d.validation[labels[d.validation] == label].tolist()) for d in by_size]
            assert all(a <= b for a, b in pairwise(sorted(held, key=len)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 16), st.integers(1, 16))
def test_test_blocks_of_studies_of_different_shots_nest(size, shots, other):
    blocks = [set(drawn(labels_of([size]), k).test.tolist()) for k in sorted((shots, other), reverse=True)]
    assert blocks[0] <= blocks[1]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, (0, 0, 1)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1))]
)
def test_a_tiny_class_tests_trains_and_validates_in_this_order_of_need(count, sizes):
    for seed in range(4):
        found = drawn(labels_of([count]), 6, seed, largest_percent=50)
        assert (len(found.train), len(found.validation), len(found.test)) == sizes


def test_seeds_share_test_images_and_draw_the_rest_anew():
    draws = [drawn(labels_of([60] * 20), 6, seed) for seed in (1, 2, 3)]
    assert len({d.test.tobytes() for d in draws}) == 1
    assert len({d.train.tobytes() for d in draws}) == 3
    everything = {*draws[0].train.tolist(), *draws[1].train.tolist(), *draws[2].train.tolist()}
    assert len(everything) == pytest.approx(20 * 30 * (1 - 0.8**3), abs=30)


def test_percentages_of_a_published_division_do_not_meet_either():
    labels = labels_of([40] * 5)
    official = OfficialSplit(np.arange(0, 200, 2), np.arange(1, 200, 2))
    small, large = (
        drawn(labels, None, split=Split(percent=p), largest_percent=40, official=official) for p in (10, 40)
    )
    assert not set(small.validation) & set(large.train)
    alone = drawn(labels, None, split=Split(percent=40), official=official)
    assert large.train.tolist() == alone.train.tolist(), "the largest split is drawn as it was"


def test_largest_percent_below_the_split_is_refused():
    with pytest.raises(DatasetError, match="largest_percent=10 is below the split's 20 per cent"):
        drawn(labels_of([30]), None, split=Split(percent=20), largest_percent=10)


@settings(max_examples=60, deadline=None)
@given(
    counts,
    st.lists(st.integers(1, 12), min_size=2, max_size=4, unique=True),
    seeds,
    st.integers(0, 3),
    st.sampled_from(["search", "paper"]),
)
def test_a_published_division_is_kept_to(sizes, shots, seed, division, protocol):
    labels = labels_of(sizes, 0)
    in_test = np.random.default_rng(division).random(len(labels)) < 0.4
    official = OfficialSplit(np.flatnonzero(~in_test), np.flatnonzero(in_test))
    draws = [
        drawn(labels, k, seed, protocol=protocol, largest_shots=max(shots), official=official)
        for k in sorted(shots)
    ]
    for k, found in zip(sorted(shots), draws, strict=True):
        assert found.test.tolist() == official.test.tolist()
        own = [*found.train.tolist(), *found.validation.tolist()]
        assert len(set(own)) == len(own) and set(own) <= set(official.train.tolist())
        available = np.bincount(labels[official.train], minlength=len(sizes))
        trained = np.bincount(labels[found.train], minlength=len(sizes))
        enough = available >= (k if protocol == "paper" else max(shots) + 4)
        assert (trained[enough] == k).all() and (trained <= np.minimum(k, available)).all()
        assert (trained >= np.minimum(1, available)).all(), "a scarce class trains with what it has"
    for smaller, larger in pairwise(draws):
        assert set(smaller.train) <= set(larger.train)


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(1, 12), st.none() | st.integers(12, 16), seeds, st.booleans())
def test_clap_trains_and_tests_on_the_images_of_search_and_none_validate(
    sizes, shots, largest, seed, published
):
    labels = labels_of(sizes, 0)
    third = np.arange(len(labels)) % 3 == 0
    official = OfficialSplit(np.flatnonzero(~third), np.flatnonzero(third)) if published else None
    options = {"largest_shots": largest, "official": official}
    search, clap = (drawn(labels, shots, seed, protocol=name, **options) for name in ("search", "clap"))
    assert clap.train.tolist() == search.train.tolist() and clap.test.tolist() == search.test.tolist()
    assert clap.validation.tolist() == [] and clap.labelled == len(search.train)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 16), st.sampled_from(["search", "paper", "clap"]))
def test_part_sizes_are_those_of_a_draw(count, shots, protocol):
    found = drawn(labels_of([count]), shots, protocol=protocol)
    sizes = (len(found.train), len(found.validation), len(found.test))
    assert part_sizes(count, shots, protocol=protocol) == sizes


def test_other_words_for_a_class_draw_the_same_images(pattern_dataset):
    dataset = pattern_dataset({"art": ("art", {"mug": 20, "tv": 20})})
    options = {"split": Split(shots=3), "draw_seed": 1}
    before = draw_task(dataset, "art", **options)
    dataset.class_keys = lambda task: ("mug", "tv")
    dataset.tasks = (TaskInfo("art", ("coffee mug", "television")),)
    assert draw_task(dataset, "art", **options).train.tolist() == before.train.tolist()
