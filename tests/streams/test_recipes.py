from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.data import PermutedStream, RotatedStream, SequenceStream, SplitStream
from pipeline.streams.recipes import RawDataset, build_stream
from pipeline.support.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 9, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 9, 8, 3), dtype=np.uint8)


def data(shape: tuple[int, ...], classes: int, name: str = "made") -> RawDataset:
    return RawDataset(name, shape, tuple(range(classes)))


def rotated(**values: object) -> RotatedStream:
    return RotatedStream.model_validate({"name": "rotated", "tasks": 3, "degrees": 25.0} | values)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("images", [IMAGES, COLOUR], ids=["grey", "colour"])
def test_a_rotation_is_pillows(images: np.ndarray, interpolation: str) -> None:
    views = list(build_stream(rotated(interpolation=interpolation), [data(images.shape[1:], 2)]))
    method = Image.Resampling[interpolation.upper()]
    for task, view in enumerate(views):
        wanted = [np.asarray(Image.fromarray(image).rotate(25.0 * task, method)) for image in images]
        assert np.array_equal(view.apply(images), np.stack(wanted))
        assert view.made == {"degrees": 25.0 * task}


def test_jitter_is_subtracted_seeded_and_told() -> None:
    angles = [view.made["degrees"] for view in build_stream(rotated(jitter=10.0, seed=3), [data((9, 9), 1)])]
    again = [view.made["degrees"] for view in build_stream(rotated(jitter=10.0, seed=3), [data((9, 9), 1)])]
    other = [view.made["degrees"] for view in build_stream(rotated(jitter=10.0, seed=4), [data((9, 9), 1)])]
    assert angles == again != other
    assert all(25.0 * task - 10 <= angle <= 25.0 * task for task, angle in enumerate(angles))


@pytest.mark.parametrize("images", [IMAGES, COLOUR], ids=["grey", "colour"])
def test_a_permutation_moves_whole_pixels_and_the_first_is_the_identity(images: np.ndarray) -> None:
    views = list(build_stream(PermutedStream(name="permuted", tasks=3), [data(images.shape[1:], 2)]))
    assert np.array_equal(views[0].apply(images), images)
    pixels = images.shape[1] * images.shape[2]
    for view in views[1:]:
        order = view.made["permutation"]
        assert sorted(order) == list(range(pixels))
        assert order != list(range(pixels))
        flat = images.reshape(len(images), pixels, -1)
        assert np.array_equal(view.apply(images).reshape(flat.shape), flat[:, order])
    assert views[1].made != views[2].made


def test_a_split_gives_every_class_to_one_task() -> None:
    views = list(build_stream(SplitStream(name="split", tasks=5), [data((9, 9), 10)]))
    assert [view.classes for view in views] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert np.array_equal(views[3].apply(IMAGES), IMAGES)
    seeded = list(build_stream(SplitStream(name="split", tasks=5, order="seeded"), [data((9, 9), 10)]))
    assert sorted(label for view in seeded for label in view.classes) == list(range(10))
    assert [view.classes for view in seeded] != [view.classes for view in views]


@pytest.mark.parametrize("kind", ["permuted", "split"])
def test_a_stream_is_drawn_from_its_own_seed(kind: str) -> None:
    def made(seed: int) -> list[dict[str, Any]]:
        of_kind: dict[str, PermutedStream | SplitStream] = {
            "permuted": PermutedStream(name="permuted", tasks=3, seed=seed),
            "split": SplitStream(name="split", tasks=5, order="seeded", seed=seed),
        }
        return [view.made for view in build_stream(of_kind[kind], [data((9, 9), 10)])]

    assert made(3) == made(3) != made(4)


def test_tasks_are_named_after_what_they_show() -> None:
    stream = SplitStream(name="split", tasks=2)
    assert [view.name for view in build_stream(stream, [data((9, 9), 6)])] == ["classes 0-2", "classes 3-5"]
    gaps = RawDataset("made", (9, 9), (0, 2, 4, 5))
    assert [view.name for view in build_stream(stream, [gaps])] == ["classes 0, 2", "classes 4, 5"]


def test_tasks_of_named_classes_have_their_names_while_they_are_short() -> None:
    names = ("auk", "emu", "a bird with a name that is much too long", "owl", "pay$", "tit")
    own = RawDataset("made", (9, 9), tuple(range(6)), names)
    views = list(build_stream(SplitStream(name="split", tasks=3), [own]))
    assert [view.name for view in views] == ["auk, emu", "classes 2, 3", "classes 4, 5"]
    assert [view.made["names"] for view in views] == [list(names[:2]), list(names[2:4]), list(names[4:])]
    for pair, shown in (
        (("äöü", "Сова"), "äöü, Сова"),
        (("梟", "鷗"), "classes 0, 1"),
        (("a\u200b", "b"), "classes 0, 1"),
    ):
        (view,) = build_stream(SplitStream(name="split", tasks=1), [RawDataset("made", (9, 9), (0, 1), pair)])
        assert view.name == shown
    of_run = build_stream(SplitStream(name="split", tasks=3, order="run"), [own])
    assert [view.made for view in of_run][3] == {"classes": [3], "names": ["owl"]}


def test_tasks_that_do_not_divide_the_classes_are_refused() -> None:
    with pytest.raises(UserError, match="10 classes cannot be split evenly into 3 tasks; choose one of 1, 2, 5, 10"):
        list(build_stream(SplitStream(name="split", tasks=3), [data((9, 9), 10)]))


def test_a_stream_may_take_some_of_the_classes() -> None:
    stream = SplitStream(name="split", tasks=2, first_class=3, last_class=8)
    assert [view.classes for view in build_stream(stream, [data((9, 9), 10)])] == [(3, 4, 5), (6, 7, 8)]
    to_the_end = SplitStream(name="split", tasks=2, first_class=4)
    assert [view.classes for view in build_stream(to_the_end, [data((9, 9), 10)])] == [(4, 5, 6), (7, 8, 9)]
    from_the_start = SplitStream(name="split", tasks=1, last_class=0)
    assert [view.classes for view in build_stream(from_the_start, [data((9, 9), 10)])] == [(0,)]
    seeded = SplitStream(name="split", tasks=3, first_class=4, order="seeded")
    assert sorted(label for view in build_stream(seeded, [data((9, 9), 10)]) for label in view.classes) == list(
        range(4, 10)
    )
    with pytest.raises(UserError, match="6 classes cannot be split evenly into 4 tasks; choose one of 1, 2, 3, 6"):
        list(build_stream(stream.model_copy(update={"tasks": 4}), [data((9, 9), 10)]))


def test_classes_that_a_dataset_does_not_have_are_refused() -> None:
    for key in ("first_class", "last_class"):
        stream = SplitStream.model_validate({"name": "split", "tasks": 1, key: 10})
        with pytest.raises(UserError, match=rf"stream\.{key}: made has no class 10; choose one from 0 to 9"):
            list(build_stream(stream, [data((9, 9), 10)]))
    with pytest.raises(ValueError, match=r"last_class\s+Value error, must not be below first_class, 5"):
        SplitStream(name="split", tasks=1, first_class=5, last_class=4)


def test_a_stream_whose_order_every_run_draws_has_a_view_for_each_class() -> None:
    stream = SplitStream(name="split", tasks=2, first_class=2, last_class=5, order="run")
    views = list(build_stream(stream, [data((9, 9), 10)]))
    assert [(view.name, view.classes) for view in views] == [(f"class {label}", (label,)) for label in range(2, 6)]


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    short = [view.made for view in build_stream(PermutedStream(name="permuted", tasks=2), [data((9, 9), 1)])]
    long = [view.made for view in build_stream(PermutedStream(name="permuted", tasks=4), [data((9, 9), 1)])]
    assert long[:2] == short


def test_a_sequence_shows_each_dataset_in_one_shape_with_classes_of_its_own() -> None:
    stream = SequenceStream(name="sequence", height=12, width=10)
    datasets = [data((9, 9), 3, "grey"), data((12, 10, 3), 2, "fits"), data((9, 8, 3), 2, "colour")]
    views = list(build_stream(stream, datasets))
    assert [view.name for view in views] == ["grey", "fits", "colour"]
    assert [view.classes for view in views] == [(0, 1, 2), (3, 4), (5, 6)]
    assert [view.labels for view in views] == [(0, 1, 2), (0, 1), (0, 1)]
    assert [view.dataset for view in views] == [0, 1, 2]
    fitting = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), np.uint8)
    assert views[1].apply(fitting) is fitting
    for view, images in ((views[0], IMAGES), (views[2], COLOUR)):
        brought = view.apply(images)
        assert brought.shape == (5, 12, 10, 3)
        for image, found in zip(images, brought, strict=True):
            wanted = Image.fromarray(image).convert("RGB").resize((10, 12), Image.Resampling.BILINEAR)
            assert np.array_equal(found, np.asarray(wanted))
    grey = next(build_stream(SequenceStream(name="sequence", height=9, width=9, colour="grey"), datasets))
    assert grey.apply(IMAGES) is IMAGES
