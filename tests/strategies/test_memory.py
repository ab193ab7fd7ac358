"""What the memories keep, and what they give back."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from pipeline.strategies import Batch
from pipeline.strategies.memory import Reservoir, Ring

CPU = torch.device("cpu")
properties = settings(max_examples=60)
seeds = st.integers(0, 2**32 - 1)


def images_of(numbers: Tensor) -> Tensor:
    """An image of two pixels that tells the example's number."""
    return torch.stack([numbers // 256, numbers % 256], dim=1)[:, None].to(torch.float32).div_(255)


def numbers_of(batch: Batch) -> list[int]:
    """The numbers that the images tell."""
    pixels = (batch.images[:, 0] * 255).round().to(torch.int64)
    return [int(number) for number in pixels[:, 0] * 256 + pixels[:, 1]]


def example_batch(numbers: list[int], labels: list[int] | None = None, task: int = 0) -> Batch:
    """Examples by number."""
    chosen = torch.tensor(numbers, dtype=torch.int64)
    return Batch(images_of(chosen), chosen if labels is None else torch.tensor(labels, dtype=torch.int64), task)


def pieces(values: list[int], cuts: list[int]) -> list[list[int]]:
    """The list in pieces of the lengths `cuts` (in turn, again and again)."""
    cut: list[list[int]] = []
    while values:
        length = cuts[len(cut) % len(cuts)]
        cut.append(values[:length])
        values = values[length:]
    return cut


def test_a_reservoir_keeps_every_example_with_equal_probability() -> None:
    examples, size, streams = 40, 6, 4000
    generator = np.random.default_rng(0)
    kept = np.zeros(examples)
    for _ in range(streams):
        memory = Reservoir(size, generator)
        cuts = [int(length) for length in generator.integers(1, 12, 5)]
        for numbers in pieces(list(range(examples)), cuts):
            memory.add(example_batch(numbers))
        kept[numbers_of(memory.sample(size))] += 1
    assert kept.sum() == size * streams
    # `size` different examples a stream make the counts vary less than a multinomial's, by this factor.
    narrower = (1 - size / examples) * examples / (examples - 1)
    statistic = stats.chisquare(kept).statistic / narrower
    assert stats.chi2.sf(statistic, examples - 1) > 1e-3


@properties
@given(seeds, st.integers(1, 9), st.integers(0, 60), st.lists(st.integers(1, 25), min_size=1, max_size=4))
def test_a_reservoir_keeps_as_many_as_it_can_and_nothing_twice(
    seed: int, size: int, examples: int, cuts: list[int]
) -> None:
    memory = Reservoir(size, np.random.default_rng(seed))
    seen = 0
    for numbers in pieces(list(range(examples)), cuts):
        memory.add(example_batch(numbers))
        seen += len(numbers)
        sample = memory.sample(size + 5)
        kept = numbers_of(sample)
        assert len(set(kept)) == len(kept) == min(seen, size)
        assert set(kept) <= set(range(seen))
        assert sample.labels.tolist() == kept  # image and label stay together


@properties
@given(
    seeds,
    st.integers(1, 4),
    st.sampled_from(
        [[[0, 1], [2, 3, 4], [5]], [[4, 0], [2, 1, 5], [3]], [[0, 1], [0, 1], [0, 1]], [[1, 0], [1, 2], [0]]]
    ),
    st.lists(st.integers(0, 40), min_size=2, max_size=2),
    st.lists(st.integers(1, 25), min_size=1, max_size=4),
)
def test_a_ring_keeps_exactly_the_last_m_of_each_class_of_each_task(
    seed: int, per_class: int, classes: list[list[int]], examples: list[int], cuts: list[int]
) -> None:
    generator = np.random.default_rng(seed)
    memory = Ring(per_class, classes, generator)
    plain: dict[tuple[int, int], deque[int]] = defaultdict(lambda: deque(maxlen=per_class))
    number = 0
    for task, count in enumerate(examples):  # the last task of `classes` only looks back
        memory.begin_task(task, CPU)
        for numbers in pieces(list(range(number, number + count)), cuts):
            labels = [int(label) for label in generator.choice(classes[task], len(numbers))]
            memory.add(example_batch(numbers, labels, task))
            for one, label in zip(numbers, labels, strict=True):
                plain[task, label].append(one)
        number += count
    wanted = {(task, label, one) for (task, label), last in plain.items() for one in last}
    memory.begin_task(len(examples), CPU)
    if not wanted:
        return
    sample = memory.sample(1000)
    assert sample.images.shape[0] == len(wanted)
    assert isinstance(sample.task, Tensor)
    assert set(zip(sample.task.tolist(), sample.labels.tolist(), numbers_of(sample), strict=True)) == wanted


def test_a_ring_keeps_the_last_of_a_batch_with_more_of_a_class_than_it_holds() -> None:
    memory = Ring(2, [[0, 1], [2, 3]], np.random.default_rng(0))
    memory.begin_task(0, CPU)
    memory.add(example_batch([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 0, 0]))
    memory.begin_task(1, CPU)
    assert sorted(numbers_of(memory.sample(9))) == [4, 5, 6]


@pytest.mark.parametrize("classes", [[[0, 1], [2, 3], [4, 5]], [[0, 1], [0, 1], [0, 1]]], ids=["own", "shared"])
def test_a_ring_samples_only_from_earlier_tasks(classes: list[list[int]]) -> None:
    memory = Ring(3, classes, np.random.default_rng(0))
    for task in range(3):
        memory.begin_task(task, CPU)
        if task > 0:
            memory.add(example_batch([10 * task], [classes[task][0]], task))
            sample = memory.sample(1000)
            assert isinstance(sample.task, Tensor)
            assert sorted(set(sample.task.tolist())) == list(range(task))
            assert set(numbers_of(sample)) <= set(range(10 * task))
        numbers = list(range(10 * task, 10 * task + 10))
        memory.add(example_batch(numbers, [classes[task][number % 2] for number in numbers], task))


def test_a_sample_is_drawn_evenly_and_without_repetition() -> None:
    memory = Reservoir(8, np.random.default_rng(0))
    memory.add(example_batch(list(range(8))))
    drawn = np.zeros(8)
    for _ in range(800):
        numbers = numbers_of(memory.sample(3))
        assert len(set(numbers)) == 3
        drawn[numbers] += 1
    assert stats.chisquare(drawn).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(256, 1, 1), (64, 2, 2), (16, 4, 2, 2)])
def test_images_come_back_bit_for_bit(shape: tuple[int, ...]) -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(shape)
    memory = Reservoir(len(images), np.random.default_rng(0))
    memory.add(Batch(images, torch.arange(len(images)), 0))
    sample = memory.sample(len(images))
    assert memory.images is not None
    assert memory.images.dtype == torch.uint8
    assert torch.equal(sample.images, images[sample.labels])


@pytest.mark.parametrize("kind", [Reservoir, Ring])
def test_no_slot_but_the_spare_one_is_written_twice_at_once(
    kind: type[Reservoir | Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU it would be chance which of two examples stays."""
    written: list[list[int]] = []
    monkeypatch.setattr(kind, "_write", lambda self, slots, batch: written.append(slots.tolist()))
    generator = np.random.default_rng(0)
    memory: Reservoir | Ring
    if kind is Ring:
        memory = Ring(2, [[0, 1], [2, 3]], generator)
        memory.begin_task(1, CPU)
    else:
        memory = Reservoir(4, generator)
    for _ in range(20):
        memory.add(example_batch(list(range(30)), [2 + int(label) for label in generator.integers(0, 2, 30)]))
    assert len(written[0]) == 30
    for slots in written:
        kept = [slot for slot in slots if slot != memory.size]
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(range(memory.size))


def test_adding_leaves_the_batch_as_it_was() -> None:
    batch = Batch(torch.rand(5, 1, 2), torch.arange(5), 0)
    before = batch.images.clone()
    Reservoir(3, np.random.default_rng(0)).add(batch)
    assert torch.equal(batch.images, before)


def test_a_batch_that_mixes_tasks_is_kept_with_the_task_of_each_example() -> None:
    memory = Reservoir(4, np.random.default_rng(0))
    batch = example_batch([0, 1, 2, 3])
    memory.add(batch._replace(task=torch.tensor([1, 0, 2, 1])))
    sample = memory.sample(4)
    assert isinstance(sample.task, Tensor)
    assert sample.task.tolist() == [[1, 0, 2, 1][number] for number in numbers_of(sample)]


def test_there_is_nothing_to_sample_from_an_empty_memory() -> None:
    with pytest.raises(RuntimeError, match="the memory holds no example to sample"):
        Reservoir(3, np.random.default_rng(0)).sample(1)
    ring = Ring(3, [[0, 1], [2, 3]], np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="the memory holds no example to sample"):
        ring.sample(1)
    ring.begin_task(0, CPU)
    ring.add(example_batch([1, 2], [0, 1]))
    with pytest.raises(RuntimeError, match="the memory holds no example to sample"):
        ring.sample(1)  # there is no earlier task


def test_a_memory_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot, has 0"):
        Reservoir(0, np.random.default_rng(0))


@pytest.mark.parametrize("classes", [[[0, 1], [2, 3], [4, 5]], [[0, 1], [0, 1], [0, 1]]], ids=["own", "shared"])
def test_a_ring_in_any_order_samples_from_all_tasks_seen_but_the_present_one(classes: list[list[int]]) -> None:
    memory = Ring(3, classes, np.random.default_rng(0))
    seen: set[int] = set()
    for visit, task in enumerate((2, 0, 2, 1, 0)):
        memory.begin_task(task, CPU)
        assert {number for number, _ in memory.slots_of_tasks(task)} == seen - {task}
        if seen - {task}:
            sample = memory.sample(1000)
            assert isinstance(sample.task, Tensor)
            assert set(sample.task.tolist()) == seen - {task}
        numbers = list(range(10 * visit, 10 * visit + 10))
        memory.add(example_batch(numbers, [classes[task][number % 2] for number in numbers], task))
        seen.add(task)
    memory.begin_task(1, CPU)
    assert {number // 10 for number in numbers_of(memory.sample(1000))} == {2, 4}  # the last visits' examples
