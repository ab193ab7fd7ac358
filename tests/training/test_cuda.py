"""On a GPU: the numbers of a CPU, the same bits twice, also after a kill, and no step that makes the host wait."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.networks import ReducedResnet
from pipeline.models import TaskModel, TaskTensors, build_model
from pipeline.models.inputs import layout
from pipeline.strategies import Batch
from pipeline.strategies.batch import cross_entropy
from pipeline.streams.reader import Tasks
from pipeline.support.compute import prepare
from pipeline.support.scratch import Scratch
from pipeline.training.loop import train
from pipeline.training.recorder import Measurements
from tests.configuration import project
from tests.conftest import run_plan
from tests.strategies import OWN, PLANS, batch_of, network, random_task, strategy

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),  # it says so whenever it is set
]

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def as_in_a_stage() -> Iterator[None]:
    """What `prepare` sets for a stage: an operation without a deterministic kernel is an error."""
    before, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    compute = project().params.compute.model_copy(update={"device": "cuda"})
    assert prepare(compute).type == "cuda"
    yield
    torch.set_deterministic_debug_mode(before)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
    torch.set_flush_denormal(False)


def trained(
    tasks: Tasks, name: str, device: torch.device, scratch: Scratch | None = None, dropout: float = 0.0
) -> Measurements:
    plan = run_plan(strategy=PLANS[name].model_dump(), regime={"lr_decay": 1.0, "dropout": dropout})
    return train(plan, tasks, 1, device, scratch=scratch)


@pytest.mark.parametrize("name", PLANS)
def test_a_strategy_has_the_numbers_of_a_cpu(two_tasks: Tasks, name: str) -> None:
    """Sums in another order differ in their last bits, which the steps of so short a run do not make large."""
    on_gpu, on_cpu = trained(two_tasks, name, GPU), trained(two_tasks, name, CPU)
    np.testing.assert_allclose(on_gpu.train_loss, on_cpu.train_loss, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(on_gpu.accuracy, on_cpu.accuracy, atol=0.01)


@pytest.mark.parametrize("name", PLANS)
def test_the_same_run_has_the_same_bits(two_tasks: Tasks, name: str) -> None:
    assert trained(two_tasks, name, GPU, dropout=0.25) == trained(two_tasks, name, GPU, dropout=0.25)


class DeadError(Exception):
    """Stands for a kill."""


class Mortal(Scratch):
    """Saves a state after each step, and dies after some of them."""

    def due(self) -> bool:
        self.steps_left = getattr(self, "steps_left", 100) - 1
        if self.steps_left < 0:
            raise DeadError
        return True


@pytest.mark.parametrize("name", PLANS)
def test_a_killed_run_ends_with_the_same_bits(two_tasks: Tasks, tmp_path: Path, name: str) -> None:
    wanted = trained(two_tasks, name, GPU, dropout=0.25)
    with pytest.raises(DeadError), Mortal(tmp_path, "k", "run") as scratch:
        trained(two_tasks, name, GPU, scratch, dropout=0.25)
    with Scratch(tmp_path, "k", "run") as scratch:
        assert trained(two_tasks, name, GPU, scratch, dropout=0.25) == wanted
        assert scratch.resumed


def on_gpu(task: TaskTensors) -> TaskTensors:
    return TaskTensors(task.task, task.images.to(GPU), task.labels.to(GPU))


@pytest.mark.parametrize("name", [name for name in PLANS if name != "gem"])  # GEM solves its dual problem on the host
def test_no_step_makes_the_host_wait(name: str) -> None:
    own, model = strategy(PLANS[name]), network(normalised=True).to(GPU)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.8)
    batches = [batch_of(on_gpu(random_task(task)), first) for task in range(3) for first in (0, 4, 8)]
    for number in range(3):
        own.begin_task(on_gpu(random_task(number)))
        for step, batch in enumerate(batches[3 * number : 3 * number + 3]):
            try:
                torch.cuda.set_sync_debug_mode("error" if step else "default")  # a first step may set things up
                optimizer.zero_grad()
                own.backward(model, batch)
                optimizer.step()
                own.after_step(model)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        own.end_task(model, on_gpu(random_task(number)))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam", "tag"])
def test_an_update_rule_has_the_numbers_of_a_cpu(two_tasks: Tasks, optimizer: str) -> None:
    more = {"momentum": 0.0} if optimizer == "sgd" else {"base": "rmsprop", "b": 5} if optimizer == "tag" else {}
    plan = run_plan(optimizer={"name": optimizer, "lr": 0.002, **more})
    on_gpu, on_cpu = train(plan, two_tasks, 1, GPU), train(plan, two_tasks, 1, CPU)
    np.testing.assert_allclose(on_gpu.train_loss, on_cpu.train_loss, rtol=2e-3, atol=2e-4)
    assert train(plan, two_tasks, 1, GPU) == on_gpu


def learnt(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[list[float], list[Tensor]]:
    """Losses of six steps of the reduced ResNet-18, and the weights after them."""
    torch.manual_seed(0)
    plan = ReducedResnet(name="resnet18-reduced", outputs="task")
    model = build_model(plan, (32, 32, 3), OWN).to(device, dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    images = torch.randint(256, (60, 3, 32, 32), dtype=torch.uint8).to(device)
    images = images.contiguous(memory_format=layout(device))
    batches = zip(torch.split(images, 10), torch.split((torch.arange(60) % 2).to(device), 10), strict=True)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model, Batch(*batch, 0))
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist(), [parameter.detach().cpu() for parameter in model.parameters()]


def test_a_residual_network_has_the_same_bits_twice_and_the_losses_of_a_cpu() -> None:
    """Convolutions, batch normalisation and their gradients, in the layout of the stages.

    Beside double precision: PyTorch's batch normalisation on a CPU sums coarsely where channels are last, which turns the
    sign of some ReLU's input in every batch; six steps later its losses are off by a tenth.
    """
    losses, weights = learnt(GPU)
    again, same = learnt(GPU)
    assert losses == again
    assert all(torch.equal(*pair) for pair in zip(weights, same, strict=True))
    double = learnt(CPU, torch.float64)[0]
    np.testing.assert_allclose(losses[:3], double[:3], rtol=1e-3)
    np.testing.assert_allclose(learnt(GPU, torch.float64)[0], double, rtol=1e-8)


def test_a_model_that_was_moved_keeps_its_masks() -> None:
    model = network()
    moved: TaskModel = copy.deepcopy(model).to(GPU)
    batch = batch_of(random_task(1))
    torch.testing.assert_close(moved(batch.images.to(GPU), 1).cpu(), model(batch.images, 1), rtol=1e-5, atol=1e-6)


def test_a_convolution_is_computed_in_single_precision() -> None:
    """TF32, PyTorch's default for convolutions, would be off by 3e-4."""
    torch.manual_seed(0)
    images, weights = torch.randn(10, 20, 16, 16, device=GPU), torch.randn(20, 20, 3, 3, device=GPU)
    single = torch.nn.functional.conv2d(images, weights, padding=1).double()
    double = torch.nn.functional.conv2d(images.double(), weights.double(), padding=1)
    assert (single - double).norm() / double.norm() < 2e-6
