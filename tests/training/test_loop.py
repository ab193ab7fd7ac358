from __future__ import annotations

import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from pipeline.analysis.metrics import all_metrics
from pipeline.config import DataPlan
from pipeline.config.data import SplitStream
from pipeline.config.networks import Resnet
from pipeline.config.regimes import Regime
from pipeline.config.strategies import ERSettings, GEMSettings, MultitaskSettings
from pipeline.datasets.sources import fetch
from pipeline.handover.documents import checked
from pipeline.handover.runs import Trained
from pipeline.models import TaskModel, build_model, load_task
from pipeline.strategies import Batch, Naive
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import DivergenceError, UserError
from pipeline.support.randomness import torch_seed
from pipeline.training.evaluation import accuracy_row
from pipeline.training.loop import learning_rate, train
from pipeline.training.recorder import CURVE, Measurements
from pipeline.training.run import _recalled_alone, build_run, random_state_kept
from stages.train import _metrics
from tests.conftest import rotated_digits, run_plan

CPU = torch.device("cpu")
STABLE = {"lr_decay": 0.5, "min_lr": 5e-5, "dropout": 0.25}


def test_the_network_learns(two_tasks: Tasks) -> None:
    record = train(run_plan(training={"batch_size": 8, "epochs": 3}), two_tasks, 1, CPU)
    metrics = all_metrics(record.accuracy)
    assert np.mean(record.accuracy[0]) < 0.3
    assert metrics["learning_accuracy"] > 0.85


def test_the_record_is_whole(two_tasks: Tasks) -> None:
    record = train(run_plan(), two_tasks, 1, CPU)
    assert np.shape(record.accuracy) == np.shape(record.test_loss) == (3, 2)
    assert [len(losses) for losses in record.train_loss] == [CURVE, CURVE]
    assert record.train_loss[0][0] > record.train_loss[0][-1]


@pytest.mark.parametrize("regime", [{"lr_decay": 1.0, "dropout": 0.0}, STABLE], ids=["plastic", "stable"])
def test_same_plan_and_seed_give_the_same_numbers_whatever_ran_before(two_tasks: Tasks, regime: object) -> None:
    plan = run_plan(regime=regime)
    first = train(plan, two_tasks, 1, CPU)
    torch.manual_seed(99)
    np.random.default_rng(5).random(3)
    random.seed(3)
    torch.rand(7)
    assert train(plan, two_tasks, 1, CPU) == first
    assert train(plan, two_tasks, 2, CPU) != first


def test_the_callers_random_state_is_left_alone(two_tasks: Tasks) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    train(run_plan(regime=STABLE), two_tasks, 1, CPU)
    assert torch.equal(torch.rand(3), wanted)


def test_dropout_draws_from_a_stream_of_its_own_whatever_the_network_drew(two_tasks: Tasks) -> None:
    with random_state_kept(CPU):
        build_run(run_plan(), two_tasks, 1, CPU)
        drawn = torch.rand(3)
        torch.manual_seed(torch_seed(1, "dropout"))
        assert torch.equal(torch.rand(3), drawn)


def test_what_is_evaluated_changes_no_number(two_tasks: Tasks) -> None:
    """After the first of two tasks the second is the next one, which forward transfer needs."""
    whole = train(run_plan(), two_tasks, 1, CPU)
    part = train(run_plan(training={"batch_size": 16, "epochs": 1, "evaluate": "next"}), two_tasks, 1, CPU)
    assert part == whole


def test_only_the_tasks_learnt_and_the_next_one_are_evaluated(tmp_path: Path) -> None:
    tasks = rotated_digits(tmp_path, 4)
    training = {"batch_size": 64, "epochs": 1}
    whole = train(run_plan(training=training), tasks, 1, CPU)
    part = train(run_plan(training={**training, "evaluate": "next"}), tasks, 1, CPU)
    for every, some in ((whole.accuracy, part.accuracy), (whole.test_loss, part.test_loss)):
        for learnt, evaluated in enumerate((4, 2, 3, 4, 4)):
            assert some[learnt][:evaluated] == every[learnt][:evaluated]
            assert all(math.isnan(value) for value in some[learnt][evaluated:])
            assert len(some[learnt]) == 4
            assert not any(math.isnan(value) for value in every[learnt])
    written = checked(Trained, _metrics(part, tasks), "1.json", "mend it")
    assert written.accuracy[1][2:] == [None, None]
    assert written.average_accuracy == pytest.approx(np.mean(whole.accuracy[4]), abs=1e-6)


def test_dropout_at_test_changes_what_is_measured_and_not_what_is_learnt(two_tasks: Tasks) -> None:
    quiet = train(run_plan(regime=STABLE), two_tasks, 1, CPU)
    noisy = train(run_plan(regime=STABLE | {"dropout_at_test": True}), two_tasks, 1, CPU)
    assert noisy.train_loss == quiet.train_loss
    assert all(loss > other for loss, other in zip(noisy.test_loss[2], quiet.test_loss[2], strict=True))
    assert train(run_plan(regime=STABLE | {"dropout_at_test": True}), two_tasks, 1, CPU) == noisy


def test_the_mode_of_a_model_that_fails_while_it_is_evaluated_is_restored(two_tasks: Tasks) -> None:
    model = build_model(run_plan().model, two_tasks.image_shape, two_tasks.classes, 0.5)
    test = load_task(two_tasks, 0, "test", [list(range(10))] * 2, CPU)
    model.network.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accuracy_row(model, [test])
    assert all(module.training for module in model.modules())


def test_a_damaged_task_is_found_before_the_first_step(two_tasks: Tasks, tmp_path: Path) -> None:
    shutil.copytree(two_tasks.folder, tmp_path / "tasks")
    damaged = tmp_path / "tasks" / "task-02" / "train_labels.npy"
    labels = np.load(damaged)
    np.save(damaged, labels[::-1])
    with pytest.raises(UserError, match=r"task-02.*dvc repro split"):
        build_run(run_plan(), Tasks.open(tmp_path / "tasks"), 1, CPU)


def test_dropout_at_test_draws_anew_for_each_row_and_leaves_the_mode(two_tasks: Tasks) -> None:
    plan = run_plan(regime=STABLE)
    torch.manual_seed(0)
    model = build_model(plan.model, two_tasks.image_shape, two_tasks.classes, 0.5)
    tests = [load_task(two_tasks, task, "test", [list(range(10))] * 2, CPU) for task in range(2)]
    rows = [accuracy_row(model, tests, dropout=True) for _ in range(2)]
    assert rows[0] != rows[1]
    assert all(module.training for module in model.modules())
    assert accuracy_row(model, tests) == accuracy_row(model, tests)


def test_a_row_of_the_first_tasks_leaves_the_others_out(two_tasks: Tasks) -> None:
    torch.manual_seed(0)
    model = build_model(run_plan().model, two_tasks.image_shape, two_tasks.classes)
    tests = [load_task(two_tasks, task, "test", [list(range(10))] * 2, CPU) for task in range(2)]
    accuracy, loss = accuracy_row(model, tests)
    assert np.array_equal(accuracy_row(model, tests, 1), [[accuracy[0], np.nan], [loss[0], np.nan]], equal_nan=True)


def test_a_run_learns_the_tasks_that_its_seed_draws(tmp_path: Path) -> None:
    """With the order of a labelled stream, the same numbers as on it: nothing else of a run depends on that draw."""
    for order in ("labelled", "run"):
        stream = SplitStream.model_validate({"name": "split", "tasks": 2, "last_class": 3, "order": order})
        (tmp_path / order).mkdir()
        plan = DataPlan(datasets=["digits"], stream=stream, evaluation="test")
        write_tasks(tmp_path / order, plan, [fetch("digits")])
    labelled = Tasks.open(tmp_path / "labelled")
    of_seed = [Tasks.open(tmp_path / "run", seed) for seed in range(50)]
    same = next(seed for seed, tasks in enumerate(of_seed) if tasks.classes == labelled.classes)
    other = next(seed for seed, tasks in enumerate(of_seed) if tasks.classes == [[2, 3], [0, 1]])
    record = train(run_plan(), of_seed[same], same, CPU)
    assert record == train(run_plan(), labelled, same, CPU)
    turned = train(run_plan(), of_seed[other], same, CPU)
    assert turned.accuracy[0] == record.accuracy[0][::-1]  # the untrained network, on the same two tasks


def test_seeds_pair_methods(two_tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods with one seed start from the same weights and see the same order of examples."""
    seen: list[list[int]] = []
    plainly = Naive.backward

    def noting(self: Naive, model: TaskModel, batch: Batch) -> torch.Tensor:
        seen[-1] += batch.labels.tolist()
        return plainly(self, model, batch)

    monkeypatch.setattr(Naive, "backward", noting)
    records = []
    for method, rule in (("one", {"name": "sgd", "lr": 0.1}), ("other", {"name": "rmsprop", "lr": 1e-3})):
        seen.append([])
        records.append(train(run_plan(method=method, optimizer=rule), two_tasks, 1, CPU))
    assert records[0].accuracy[0] == records[1].accuracy[0]
    assert seen[0] == seen[1]
    assert seen[0] != sorted(seen[0])


def test_every_task_ends_with_a_checkpoint_of_its_weights(two_tasks: Tasks) -> None:
    seen: list[tuple[int, float]] = []

    def note(task: int, model: TaskModel) -> None:
        seen.append((task, float(sum(p.detach().abs().sum() for p in model.parameters()))))

    train(run_plan(), two_tasks, 1, CPU, after_task=note)
    assert [task for task, _ in seen] == [0, 1]
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize("rule", [{"name": "sgd", "momentum": 0.0}, {"name": "rmsprop"}, {"name": "adam"}])
def test_a_diverging_run_stops_and_says_where(two_tasks: Tasks, rule: dict[str, object]) -> None:
    plan = run_plan(optimizer={**rule, "lr": 1e6})
    with pytest.raises(DivergenceError, match=r"naive, seed 1: the loss is \S+ at task 1, step \d+"):
        train(plan, two_tasks, 1, CPU)


@pytest.mark.parametrize(("name", "lr"), [("rmsprop", 0.003), ("adagrad", 0.03), ("adam", 0.003), ("tag", 0.003)])
def test_every_update_rule_trains(two_tasks: Tasks, name: str, lr: float) -> None:
    special = {"base": "adam", "b": 5.0} if name == "tag" else {}
    plan = run_plan(optimizer={"name": name, "lr": lr, **special})
    record: Measurements = train(plan, two_tasks, 1, CPU)
    assert all_metrics(record.accuracy)["learning_accuracy"] > 0.3


def test_tag_records_alpha_of_every_pair_of_tasks(two_tasks: Tasks) -> None:
    record = train(run_plan(optimizer={"name": "tag", "lr": 1e-3, "base": "rmsprop", "b": 5.0}), two_tasks, 1, CPU)
    first, second = (np.array(course) for course in record.alpha)
    assert first.shape == (CURVE, 1)
    assert (first == 1).all()
    assert second.shape == (CURVE, 2)
    assert np.allclose(second[:, 1], np.exp(-5), rtol=1e-6)
    assert ((second[:, 0] > np.exp(-5)) & (second[:, 0] < np.exp(5))).all()
    assert train(run_plan(), two_tasks, 1, CPU).alpha == []


def test_learning_rate_decays_from_the_first_task_and_has_a_floor() -> None:
    regime = Regime(lr_decay=0.5, min_lr=5e-5, dropout=0.0)
    assert [learning_rate(regime, 0.1, task) for task in range(3)] == pytest.approx([0.05, 0.025, 0.0125])
    assert learning_rate(regime, 0.1, 40) == 5e-5
    assert learning_rate(regime, 1e-5, 0) == 1e-5  # the floor never raises a rate
    assert learning_rate(Regime(lr_decay=1.0, dropout=0.0), 1e-6, 9) == 1e-6


def test_steps_are_taken_at_the_decayed_rate(two_tasks: Tasks) -> None:
    rates: list[float] = []
    hook = register_optimizer_step_post_hook(lambda rule, *_: rates.append(rule.param_groups[0]["lr"]))
    try:
        train(run_plan(regime=STABLE, optimizer={"name": "sgd", "lr": 0.1}), two_tasks, 1, CPU)
    finally:
        hook.remove()
    half = len(rates) // 2
    assert rates == pytest.approx([0.05] * half + [0.025] * half)


def test_fewer_joint_batches_than_tasks_are_refused(two_tasks: Tasks) -> None:
    """The network is measured after each part of them, which would be empty."""
    plan = run_plan(strategy={"name": "multitask"}, training={"batch_size": 5000, "epochs": 1})
    with pytest.raises(UserError, match="batches of 5000 make 1 steps, fewer than the 2 tasks"):
        train(plan, two_tasks, 1, CPU)
    assert len(train(plan.model_copy(update={"training": run_plan().training}), two_tasks, 1, CPU).train_loss) == 2


def test_a_strategy_hears_of_every_step_right_after_the_update(
    two_tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    hook = register_optimizer_step_post_hook(lambda *arguments: events.append("update"))
    monkeypatch.setattr(Naive, "after_step", lambda self, model: events.append("after"))
    try:
        train(run_plan(), two_tasks, 1, CPU)
    finally:
        hook.remove()
    assert len(events) > 100
    assert events == ["update", "after"] * (len(events) // 2)


@pytest.mark.parametrize(
    ("side", "batch", "refused"), [(32, 4, True), (32, 1, True), (32, 3, False), (32, 17, False), (33, 4, False)]
)
def test_a_batch_of_one_small_image_is_refused_for_a_resnet_alone(
    tmp_path: Path, side: int, batch: int, refused: bool
) -> None:
    """Of 32 pixels its strides leave one, and batch normalisation needs two values; nine images leave one over of four."""
    images = np.random.default_rng(0).integers(0, 256, (18, side, side, 3), np.uint8)
    labels = np.repeat([0, 1, 2, 3], [5, 4, 5, 4])
    stream = SplitStream.model_validate({"name": "split", "tasks": 2})
    plan = DataPlan(datasets=["cifar10"], stream=stream, evaluation="test")
    write_tasks(tmp_path, plan, [dict.fromkeys(("train", "test"), (images, labels))])
    model = Resnet(name="resnet18", outputs="task").model_dump()
    ours = run_plan(model=model, training={"batch_size": batch, "epochs": 1})
    if refused:
        with pytest.raises(UserError, match="task 1 has a batch of one image"):
            train(ours, Tasks.open(tmp_path), 1, CPU)
    else:
        assert len(train(ours, Tasks.open(tmp_path), 1, CPU).train_loss) == 2
    joint, one = (ours.model_copy(deep=True) for _ in range(2))
    joint.strategy = MultitaskSettings(name="multitask")
    if (batch == 1 or 18 % batch == 1) and side == 32:
        with pytest.raises(UserError, match="there is a batch of one image"):
            build_run(joint, Tasks.open(tmp_path), 1, CPU)
    else:
        build_run(joint, Tasks.open(tmp_path), 1, CPU)  # of the mixed images of both tasks no batch has one
    one.strategy = ERSettings(name="er", memory_batch=1)
    one.training.batch_size = 3
    if side == 32:
        with pytest.raises(UserError, match="a memory batch has one image"):
            build_run(one, Tasks.open(tmp_path), 1, CPU)
        one.strategy.one_pass = True  # with the batch
        build_run(one, Tasks.open(tmp_path), 1, CPU)


@pytest.mark.parametrize(
    ("strategy", "refused"),
    [
        ({"name": "agem"}, True),
        ({"name": "agem", "memory_per_class": 2}, False),
        ({"name": "gem"}, True),
        ({"name": "gem", "memory_per_class": 2}, False),
        ({"name": "er", "memory": "ring"}, True),
        ({"name": "er", "memory": "ring", "one_pass": True}, False),  # with the batch
        ({"name": "er"}, False),  # a reservoir for all tasks
        ({"name": "derpp"}, False),
    ],
)
def test_a_single_remembered_small_image_is_refused_for_a_resnet(
    tmp_path: Path, strategy: dict[str, object], refused: bool
) -> None:
    """Of tasks with one class each, a ring of one image per class recalls one in the second task."""
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    stream = SplitStream.model_validate({"name": "split", "tasks": 3})
    plan = DataPlan(datasets=["cifar10"], stream=stream, evaluation="test")
    write_tasks(tmp_path, plan, [dict.fromkeys(("train", "test"), (images, np.repeat([0, 1, 2], 4)))])
    model = Resnet(name="resnet18", outputs="task").model_dump()
    ours = run_plan(model=model, strategy=strategy, training={"batch_size": 4, "epochs": 1})
    if refused:
        with pytest.raises(
            UserError, match=r"of task 1 the memory recalls one image alone, .*; raise memory_per_class"
        ):
            build_run(ours, Tasks.open(tmp_path), 1, CPU)
    else:
        assert len(train(ours, Tasks.open(tmp_path), 1, CPU).train_loss) == 3


@pytest.mark.parametrize(("tasks", "alone"), [([2, 1, 2], 1), ([2, 2, 1], None), ([1], None)])
def test_gem_recalls_each_earlier_task_by_itself(tasks: list[int], alone: int | None) -> None:
    assert _recalled_alone(GEMSettings(name="gem"), tasks) == alone
