from __future__ import annotations

import numpy as np
import pytest

from pipeline.benchmarks import sources
from pipeline.errors import UserError


def test_digits_are_all_1797_images_split_by_class_and_disjoint() -> None:
    splits = sources.fetch("digits")
    (train, train_labels), (test, test_labels) = splits["train"], splits["test"]
    assert len(train) + len(test) == 1797
    assert train.dtype == np.uint8
    assert train.max() == 255
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    share = np.bincount(test_labels) / (np.bincount(test_labels) + np.bincount(train_labels))
    assert np.all(np.abs(share - 0.25) < 0.01)


def test_canonical_order_is_by_label_then_bytes_whatever_came_first() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 3, (200, 2, 2), dtype=np.uint8)
    labels = generator.integers(0, 3, 200)
    order = sources.canonical_order(images, labels)
    keys = [(int(labels[i]), images[i].tobytes()) for i in order]
    assert keys == sorted(keys)
    shuffle = generator.permutation(200)
    again = sources.canonical_order(images[shuffle], labels[shuffle])
    assert np.array_equal(images[order], images[shuffle][again])


def test_a_wrong_checksum_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.SOURCES["digits"]
    splits = {split: (images.copy(), labels) for split, (images, labels) in source.load().items()}
    splits["train"][0][0, 0, 0] += 1
    monkeypatch.setitem(sources.SOURCES, "digits", sources.Source(lambda: splits, source.sha256))
    with pytest.raises(UserError, match=r"digits \(train\): sha256 .* expected"):
        sources.fetch("digits")


def test_an_unknown_dataset_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'digits'"):
        sources.fetch("digit")
