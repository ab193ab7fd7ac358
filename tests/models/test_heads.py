from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import DataPlan
from pipeline.config.data import SplitStream
from pipeline.config.networks import Mlp, Pixels, ReducedResnet, Resnet
from pipeline.datasets.arrays import Split
from pipeline.models import (
    TaskModel,
    build_model,
    build_model_for,
    evaluating,
    load_checkpoint,
    load_task,
    outputs_of_tasks,
    save_checkpoint,
)
from pipeline.models.inputs import mean_image
from pipeline.models.mlp import MLP
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import UserError


def test_repeated_classes_get_a_block_of_outputs_a_task() -> None:
    assert outputs_of_tasks([[0, 1], [0, 1]], "task") == [[0, 1], [2, 3]]


def test_disjoint_classes_get_one_output_each() -> None:
    assert outputs_of_tasks([[4, 7], [1, 9]], "task") == [[1, 2], [0, 3]]


def test_shared_outputs_serve_every_task() -> None:
    assert outputs_of_tasks([[0, 1], [0, 1]], "shared") == [[0, 1], [0, 1]]


def model() -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(nn.Linear(3, 4), [[0, 1], [2, 3]], "task")


def test_other_tasks_outputs_have_no_probability_and_no_gradient() -> None:
    network = model()
    logits = network(torch.rand(5, 3), 1)
    assert torch.equal(logits.softmax(dim=1)[:, :2], torch.zeros(5, 2))
    F.cross_entropy(logits, torch.tensor([2, 3, 2, 3, 2])).backward()  # type: ignore[no-untyped-call]
    weight = network.network.weight.grad
    assert isinstance(weight, torch.Tensor)
    assert torch.equal(weight[:2], torch.zeros(2, 3))
    assert (weight[2:] != 0).all()


def test_a_batch_may_mix_tasks() -> None:
    network, images = model(), torch.rand(4, 3)
    mixed = network(images, torch.tensor([0, 1, 1, 0]))
    # Of four rows and of two: another kernel may multiply them, and round otherwise in the last bit.
    torch.testing.assert_close(mixed[[0, 3]], network(images[[0, 3]], 0))
    torch.testing.assert_close(mixed[[1, 2]], network(images[[1, 2]], 1))


def test_an_mlp_has_the_parameters_it_should() -> None:
    mlp = build_model(Mlp(name="mlp", hidden=[100, 100], outputs="shared"), (28, 28), [list(range(10))] * 5)
    assert sum(parameter.numel() for parameter in mlp.parameters()) == 784 * 100 + 100 + 100 * 100 + 100 + 1000 + 10


def test_dropout_follows_each_relu_of_an_mlp() -> None:
    assert list(MLP(4, [3, 3], 2, dropout=0.5).layers) == [
        "flatten1", "linear1", "relu1", "dropout1", "linear2", "relu2", "dropout2", "linear3",
    ]  # fmt: skip


def test_checkpoints_fit_with_and_without_dropout() -> None:
    plan = Mlp(name="mlp", hidden=[5, 5], outputs="task")
    with_dropout = build_model(plan, (2, 2), [[0, 1]] * 2, dropout=0.5)
    without = build_model(plan, (2, 2), [[0, 1]] * 2)
    assert set(without.state_dict()) == set(with_dropout.state_dict())


def test_images_stay_bytes_and_labels_are_outputs(two_tasks: Tasks) -> None:
    outputs = outputs_of_tasks(two_tasks.classes, "task")
    task = load_task(two_tasks, 1, "test", outputs, torch.device("cpu"))
    assert task.images.shape == (len(task), 1, 8, 8)
    assert task.images.dtype == torch.uint8
    assert np.array_equal(task.images[:, 0], two_tasks.split(1, "test")[0])
    assert sorted(set(task.labels.tolist())) == list(range(10, 20))


@pytest.mark.parametrize("pixels", ["unit", "symmetric", "imagenet"])
def test_bytes_are_scaled_on_their_way_in(pixels: Pixels) -> None:
    network = TaskModel(nn.Identity(), [[0]], "shared", pixels)
    network.register_parameter("any", nn.Parameter(torch.zeros(1)))
    images = torch.randint(256, (4, 3, 2, 2), dtype=torch.uint8)
    unit = images / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    wanted = {"unit": unit, "symmetric": 2 * unit - 1, "imagenet": (unit - mean) / std}[pixels]
    torch.testing.assert_close(network(images, 0), wanted)
    assert torch.equal(network(unit, 0), unit)  # scaled already
    assert network.double()(images, 0).dtype == torch.float64


def test_the_mean_training_image_is_exact_and_subtracted(two_tasks: Tasks) -> None:
    sums, count = [[0] * 8 for _ in range(8)], 0
    for task in range(2):
        for image in two_tasks.split(task, "train")[0].tolist():
            sums = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(sums, image, strict=True)]
            count += 1
    # A quotient of Python's whole numbers is correctly rounded, and so is what float32 makes of it.
    wanted = torch.tensor(np.array([[each / (255 * count) for each in row] for row in sums]).astype(np.float32))
    assert torch.equal(mean_image(two_tasks), wanted[None])

    mlp = build_model_for(Mlp(name="mlp", hidden=[4], outputs="task", pixels="mean-image"), two_tasks)
    shown = load_task(two_tasks, 1, "test", outputs_of_tasks(two_tasks.classes, "task"), torch.device("cpu"))
    as_they_are = (shown.images / 255).sub(wanted)
    assert torch.equal(mlp(shown.images, 1), mlp(as_they_are, 1))
    assert mlp.double()(shown.images, 1).dtype == torch.float64
    assert "mean" not in mlp.state_dict()  # as ever, a checkpoint holds weights and running statistics alone


def test_the_mean_of_colour_images_is_laid_out_as_they_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    raw: dict[str, Split] = {
        split: (draw.integers(0, 256, (n, 5, 4, 3), np.uint8), np.arange(n) % 4)
        for split, n in (("train", 9), ("test", 4))
    }
    stream = SplitStream(name="split", tasks=2)
    write_tasks(tmp_path, DataPlan(datasets=["cifar10"], stream=stream, evaluation="test"), [raw])
    tasks = Tasks.open(tmp_path)
    mean = mean_image(tasks)
    assert mean.shape == (3, 5, 4)
    images = np.asarray(raw["train"][0][np.arange(9)]).astype(np.float64)
    assert np.array_equal(mean, (images.sum(axis=0) / (9 * 255)).astype(np.float32).transpose(2, 0, 1))
    loaded = load_task(tasks, 0, "train", [[0, 1], [2, 3]], torch.device("cpu")).images
    assert mean.stride() == loaded.stride()[1:]


def test_a_mean_image_goes_with_its_pixels_alone() -> None:
    for pixels, mean in (("mean-image", None), ("unit", torch.zeros(1, 2, 2))):
        with pytest.raises(ValueError, match="a mean image is needed for pixels: mean-image, and for no others"):
            build_model(
                Mlp.model_validate({"name": "mlp", "hidden": [], "outputs": "task", "pixels": pixels}),
                (2, 2),
                [[0, 1]],
                mean=mean,
            )


@pytest.mark.parametrize(
    ("model", "shape", "told"),
    [
        (Mlp(name="mlp", hidden=[2], outputs="task", pixels="imagenet"), (8, 8), "pixels: imagenet needs RGB images"),
        (Resnet(name="resnet18", outputs="task"), (8, 8), "resnet18 needs RGB images"),
        (ReducedResnet(name="resnet18-reduced", outputs="task"), (32, 8), "at least 25x25 pixels, not 32x8"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(
    model: Mlp | Resnet | ReducedResnet, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        build_model(model, shape, [[0, 1]])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tensor: tensor.clone().index_fill_(0, torch.tensor(0), float("nan")), "holds NaN or infinity"),
        (lambda tensor: tensor.double(), r"is torch\.float64 of"),  # PyTorch would convert it silently
    ],
)
def test_a_checkpoint_with_nan_or_of_another_type_is_refused(
    tmp_path: Path, spoil: Callable[[Tensor], Tensor], told: str
) -> None:
    model, path = build_model(Mlp(name="mlp", hidden=[5], outputs="task"), (2, 2), [[0, 1]]), tmp_path / "a.safetensors"
    save_checkpoint(model, path)
    name, *_ = held = load_file(path)
    save_file(held | {name: spoil(held[name])}, path)
    with pytest.raises(UserError, match=rf"a\.safetensors: missing, damaged or of another network \({name} {told}"):
        load_checkpoint(model, path, torch.device("cpu"))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.two(torch.tanh(self.one(images)))
        return output


def test_a_checkpoint_has_tied_weights_once_and_gives_them_back(tmp_path: Path) -> None:
    model, other, path = TaskModel(Tied(), [[0, 1, 2]], "task"), TaskModel(Tied(), [[0, 1, 2]], "task"), tmp_path / "a"
    save_checkpoint(model, path)
    assert load_file(path).keys() == {"network.one.weight", "network.one.bias", "network.two.bias"}
    load_checkpoint(other, path, torch.device("cpu"))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in model.state_dict().items())
    assert len(list(other.parameters())) == 3  # still tied


def test_a_checkpoint_of_tied_weights_is_none_of_a_network_with_a_weight_for_each_layer(tmp_path: Path) -> None:
    untied, path = Tied(), tmp_path / "a"
    untied.two.weight = nn.Parameter(untied.one.weight.detach().clone())
    save_checkpoint(TaskModel(Tied(), [[0, 1, 2]], "task"), path)
    with pytest.raises(UserError, match=r"(?s)of another network .*network\.two\.weight"):
        load_checkpoint(TaskModel(untied, [[0, 1, 2]], "task"), path, torch.device("cpu"))


def test_a_checkpoint_of_weights_that_are_not_tied_has_the_bytes_of_their_state(tmp_path: Path) -> None:
    model = build_model(Mlp(name="mlp", hidden=[5], outputs="task"), (2, 2), [[0, 1]])
    save_checkpoint(model, tmp_path / "a")
    save_file(model.state_dict(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_logits_of_mixed_precision_can_be_masked() -> None:
    model = TaskModel(torch.nn.Linear(2, 4), [[0, 1], [2, 3]], "task")
    masked = model.masked(torch.ones(3, 4, dtype=torch.float16), 0)
    assert masked[:, :2].tolist() == [[1.0, 1.0]] * 3
    assert torch.softmax(masked, dim=1)[:, 2:].tolist() == [[0.0, 0.0]] * 3


def test_evaluation_restores_the_mode_of_each_module() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[1].eval()  # frozen
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model] == [True, False]
