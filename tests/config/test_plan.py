from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.config import RunPlan, read_configuration, read_run_plan, resolve_data, resolve_run
from pipeline.config.plan import without_effect
from pipeline.search.record import settings_in, tabulate
from pipeline.search.space import Point
from pipeline.search.trials import MEASURES, Outcome
from pipeline.support.errors import UserError
from tests.configuration import project
from tests.conftest import ROOT, edit


def plan(folder: Path, method: str) -> RunPlan:
    return resolve_run(read_configuration(folder), method)


def without_name(plan: RunPlan) -> dict[str, object]:
    return plan.model_dump(exclude={"method"})


def test_a_method_that_pins_no_optimizer_follows_params(configured: Path) -> None:
    edit(configured / "params.yaml", "  name: sgd", "  name: tag")
    assert without_name(plan(configured, "naive")) == without_name(plan(configured, "tag"))
    assert plan(configured, "rmsprop").optimizer.name == "rmsprop"


def test_a_plan_holds_only_what_its_update_rule_has(configured: Path) -> None:
    naive, tag = plan(configured, "naive").optimizer, plan(configured, "tag").optimizer
    assert naive.value_of("momentum") == 0.0
    assert naive.value_of("b") is None
    assert naive.value_of("base") is None
    assert tag.value_of("b") == 5.0
    assert tag.value_of("base") == "rmsprop"
    assert tag.value_of("momentum") is None


def test_later_layers_win(configured: Path) -> None:
    assert plan(configured, "naive").optimizer.lr == 0.2  # the benchmark's
    assert plan(configured, "stable").optimizer.value_of("momentum") == 0.8  # the regime's
    edit(configured / "params.yaml", "  lr: null  ", "  lr: 0.05  ")
    assert plan(configured, "naive").optimizer.lr == 0.05  # params.yaml's
    assert plan(configured, "stable").optimizer.lr == 0.2  # pinned: params.yaml does not reach it
    edit(configured / "methods.yaml", "naive:\n", "naive:\n  lr: 0.01\n")
    assert plan(configured, "naive").optimizer.lr == 0.01  # its own


def test_base_and_b_reach_every_tag_method_that_does_not_set_them(configured: Path) -> None:
    edit(configured / "params.yaml", "  base: null", "  base: adam")
    edit(configured / "params.yaml", "  b: null", "  b: 7")
    assert without_name(plan(configured, "tag")) == without_name(plan(configured, "tag-adam"))
    assert plan(configured, "tag").optimizer.value_of("b") == 7
    assert plan(configured, "tag-adagrad").optimizer.value_of("base") == "adagrad"
    assert plan(configured, "naive").optimizer.value_of("b") is None


def test_the_floor_of_the_learning_rate_is_there_only_where_it_decays(configured: Path) -> None:
    assert plan(configured, "stable").regime.min_lr == 5e-5
    assert plan(configured, "naive").regime.min_lr is None


def test_a_value_that_the_update_rule_does_not_have_is_refused(configured: Path) -> None:
    edit(configured / "methods.yaml", "  optimizer: rmsprop", "  optimizer: rmsprop\n  b: 3")
    with pytest.raises(UserError, match=r"methods\.yaml: rmsprop\.b: 'rmsprop' has no b, only 'tag' has it"):
        plan(configured, "rmsprop")


def test_a_missing_learning_rate_says_where_to_add_it(configured: Path) -> None:
    edit(configured / "benchmarks.yaml", "    adam:\n      lr: 0.003\n", "")
    with pytest.raises(
        UserError, match=r"rotated-digits\.optimizers\.adam\.lr: method 'adam' needs it and none is given"
    ):
        plan(configured, "adam")


def test_values_of_a_combination_go_with_that_update_rule_alone(configured: Path) -> None:
    assert plan(configured, "naive").optimizer.lr == 0.2
    assert plan(configured, "er").optimizer.lr == 0.1  # sgd+er
    assert plan(configured, "tag-er").optimizer.lr == plan(configured, "tag").optimizer.lr
    edit(
        configured / "methods.yaml",
        "er:\n  description: experience replay with 1 example per class\n  optimizer: sgd\n",
        "er:\n  description: open\n",
    )
    assert plan(configured, "er").optimizer.lr == 0.1
    edit(configured / "params.yaml", "  name: sgd", "  name: tag")
    assert without_name(plan(configured, "er")) == without_name(plan(configured, "tag-er"))


def test_a_combination_of_unknown_parts_is_refused(configured: Path) -> None:
    edit(configured / "benchmarks.yaml", "    sgd+er:", "    sgd+err:")
    with pytest.raises(UserError, match=r"combinations\.sgd\+err: must be an update rule, then a strategy"):
        read_configuration(configured)


def test_a_plan_holds_only_what_its_strategy_has(configured: Path) -> None:
    er, ewc = plan(configured, "er-5").strategy, plan(configured, "ewc").strategy
    assert er.model_dump(exclude_none=True) == {"name": "er", "memory_per_class": 5}
    assert ewc.model_dump(exclude_none=True) == {
        "name": "ewc",
        "ewc_lambda": 1000.0,
        "fisher": "batch",
        "fisher_batch": 200,
        "penalty_clip": 1.0,
    }
    edit(configured / "methods.yaml", "  strategy: ewc", "  strategy: ewc\n  memory_per_class: 3")
    with pytest.raises(UserError, match=r"'ewc' has no memory_per_class, only '.+', '.+' and '.+' have it; remove"):
        plan(configured, "ewc")


def test_a_plan_tells_the_kind_of_memory_only_if_it_is_no_reservoir(configured: Path) -> None:
    ring = plan(configured, "er-ring").strategy.model_dump(exclude_none=True)
    assert ring == {"name": "er", "memory_per_class": 1, "memory": "ring", "one_pass": True}
    edit(configured / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    er:\n      memory: ring\n")
    assert plan(configured, "er").strategy.value_of("memory") == "ring"
    edit(configured / "methods.yaml", "  strategy: er\n", "  strategy: er\n  memory: reservoir\n")
    assert plan(configured, "er").strategy.model_dump(exclude_none=True) == {"name": "er", "memory_per_class": 1}


@pytest.mark.parametrize(
    ("method", "section", "key", "value"),
    [
        ("agem", "strategies:\n    agem", "memory_batch", "32"),
        ("mas", "strategies:\n    mas", "mas_examples", "50"),
        ("er", "strategies:\n    er", "memory", "ring"),
        ("online-ewc", "regimes:\n    plain", "evaluate_images", "20"),
    ],
)
def test_a_null_that_says_something_wins_over_a_value_of_the_benchmark(
    configured: Path, method: str, section: str, key: str, value: str
) -> None:
    edit(configured / "benchmarks.yaml", "  training:\n", "  training:\n    evaluate_every: 100\n")
    before = plan(configured, method)
    edit(configured / "benchmarks.yaml", f"  {section.split()[0]}\n", f"  {section}:\n      {key}: {value}\n")
    assert plan(configured, method) != before
    edit(configured / "methods.yaml", f"\n{method}:\n", f"\n{method}:\n  {key}: null\n")
    assert plan(configured, method) == before


def test_a_null_of_a_tuned_value_wins_over_the_layers_before_it(configured: Path) -> None:
    edit(configured / "benchmarks.yaml", "  training:\n", "  training:\n    evaluate_every: 100\n")
    assert plan(configured, "ewc").training.evaluate_every == 100
    edit(
        configured / "benchmarks.yaml", "    ewc:\n", "    ewc:\n      evaluate_every: null\n      fisher_batch: null\n"
    )
    resolved = plan(configured, "ewc")
    # A plan leaves null out, and would be read with the default.
    assert (resolved.training.evaluate_every, resolved.strategy.value_of("fisher_batch")) == (None, 200)
    assert plan(configured, "er").training.evaluate_every == 100


def test_a_null_that_says_nothing_leaves_the_value_to_the_benchmark(configured: Path) -> None:
    before = {method: plan(configured, method) for method in ("stable", "multitask-passes", "agem")}
    edit(configured / "methods.yaml", "\nstable:\n", "\nstable:\n  lr: null\n  momentum: null\n  dropout: null\n")
    edit(configured / "methods.yaml", "\nmultitask-passes:\n", "\nmultitask-passes:\n  passes: null\n  visits: null\n")
    edit(configured / "methods.yaml", "\nagem:\n", "\nagem:\n  extra_forward: null\n  margin: null\n")
    assert {method: plan(configured, method) for method in before} == before
    edit(configured / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    multitask-passes:\n      passes: 3\n")
    edit(configured / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    agem:\n      extra_forward: true\n")
    assert plan(configured, "multitask-passes").strategy.value_of("passes") == 3
    assert plan(configured, "agem").strategy.value_of("extra_forward")


def test_passes_and_visits_together_are_refused(configured: Path) -> None:
    edit(configured / "methods.yaml", "  visits: 100\n", "  visits: 100\n  passes: 3\n")
    with pytest.raises(UserError, match=r"methods\.yaml: multitask-visits\.visits: .* remove one of them"):
        plan(configured, "multitask-visits")


def test_fewer_visits_than_tasks_are_refused(configured: Path) -> None:
    edit(configured / "methods.yaml", "  visits: 100\n", "  visits: 4\n")
    with pytest.raises(UserError, match=r"multitask-visits\.visits: 4 is fewer than the 5 tasks of .*; raise it"):
        plan(configured, "multitask-visits")
    edit(configured / "methods.yaml", "  visits: 4\n", "  visits: 5\n")
    plan(configured, "multitask-visits")


def test_of_passes_and_visits_a_method_has_its_own(configured: Path) -> None:
    edit(configured / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    multitask-passes:\n      visits: 7\n")
    assert plan(configured, "multitask-passes").strategy.value_of("visits") == 7
    assert plan(configured, "multitask-visits").strategy.value_of("visits") == 100
    edit(configured / "methods.yaml", "  visits: 100\n", "  passes: 3\n")
    strategy = plan(configured, "multitask-visits").strategy
    assert (strategy.value_of("passes"), strategy.value_of("visits")) == (3, None)
    edit(configured / "benchmarks.yaml", "      visits: 7\n", "      visits: 2\n")
    with pytest.raises(UserError, match=r"rotated-digits: visits: 2 for method 'multitask-passes' is fewer than"):
        plan(configured, "multitask-passes")


def test_a_base_that_comes_after_its_values_were_chosen_is_refused(configured: Path) -> None:
    edit(configured / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    er:\n      base: adam\n")
    with pytest.raises(UserError, match="base: adam for method 'tag-er', whose other values are those of tag-rmsprop"):
        plan(configured, "tag-er")
    assert plan(configured, "er").optimizer.name == "sgd"


def test_values_without_effect_are_told(configured: Path) -> None:
    assert without_effect(read_configuration(configured)) == []
    edit(configured / "params.yaml", "  - tag\n", "")
    edit(configured / "params.yaml", "  b: null", "  b: 7")
    (note,) = without_effect(read_configuration(configured))
    assert "optimizer.b has no effect" in note


def test_an_update_rule_that_every_method_pins_is_told(configured: Path) -> None:
    edit(configured / "params.yaml", "  name: sgd", "  name: tag")
    assert without_effect(read_configuration(configured)) == []  # naive follows it
    edit(configured / "params.yaml", "  - naive\n", "")
    (note,) = without_effect(read_configuration(configured))
    assert "optimizer.name has no effect" in note
    edit(configured / "params.yaml", "  name: tag", "  name: sgd")
    assert without_effect(read_configuration(configured)) == []  # as it is committed


@pytest.mark.parametrize(
    ("before", "added", "told"),
    [
        (
            "    rmsprop:\n",
            "momentum: 0.9",
            "optimizers.rmsprop.momentum: 'rmsprop' has no momentum, only 'sgd' has it",
        ),
        ("    tag-adam:\n", "momentum: 0.9", "optimizers.tag-adam.momentum: 'tag' has no momentum"),
        (
            "    ewc:\n",
            "memory_per_class: 5",
            "strategies.ewc.memory_per_class: 'ewc' has no memory_per_class, only 'agem', ",
        ),
        ("    sgd+er:\n", "b: 3.0", "combinations.sgd+er.b: 'sgd' has no b, only 'tag' has it"),
        ("    sgd+er:\n", "margin: 0.1", "combinations.sgd+er.margin: 'er' has no margin, only 'gem' has it"),
        ("    rmsprop:\n", "margin: 0.1", None),  # that of RMSProp with GEM
        ("    rmsprop:\n", "dropout: 0.1", None),
        ("    ewc:\n", "momentum: 0.9", None),  # that of EWC with SGD
        ("    stable:\n", "b: 3.0", None),
    ],
)
def test_a_tuned_value_of_another_rule_or_strategy_is_refused(
    configured: Path, before: str, added: str, told: str | None
) -> None:
    edit(configured / "benchmarks.yaml", before, f"{before}      {added}\n")
    if told is None:
        read_configuration(configured)
        return
    with pytest.raises(UserError, match=re.escape(f"benchmarks.yaml: rotated-digits.{told}")) as error:
        read_configuration(configured)
    assert str(error.value).endswith("; remove it")


def test_validation_data_is_part_of_the_plan_only_where_it_is_used(configured: Path) -> None:
    assert resolve_data(read_configuration(configured)).validation_fraction is None
    edit(configured / "benchmarks.yaml", "evaluation: test ", "evaluation: validation ")
    assert resolve_data(read_configuration(configured)).validation_fraction == 0.25


def test_a_missing_plan_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run 'dvc repro plan' first"):
        read_run_plan(tmp_path / "naive.yaml")


@pytest.mark.parametrize("held", [b"", b"- 1\n", b"a: [1\n", b"\xff"])
def test_a_damaged_plan_is_made_again_not_mended(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "naive.yaml").write_bytes(held)
    with pytest.raises(UserError, match=r"naive\.yaml.*; run 'dvc repro plan'$"):
        read_run_plan(tmp_path / "naive.yaml")


#: Every search of a method's own values; others (of b, of the banks' type) are named otherwise. What was searched again on
#: a finer grid, or at lower rates, is in a record of its own, METHOD-finer or METHOD-slower. er-ring has no values of its
#: own: it shares those of er.
SEARCHES = [
    (path.parent.name, path.stem)
    for path in sorted((ROOT / "results/tuning").glob("*/*.csv"))
    if path.stem in project().methods and path.stem != "er-ring"
]


def winners_of(records: Sequence[Path]) -> list[dict[str, Any]]:
    """The values of a search, recorded in one or more files, with the highest mean average accuracy; two may be level."""
    runs = pd.concat([pd.read_csv(path) for path in records])
    keys = settings_in(runs)
    scores: list[tuple[float, dict[Any, Any]]] = [
        (float(rows["average_accuracy"].mean(skipna=False)), rows[keys].iloc[0].to_dict())
        for _, rows in runs.groupby(keys)
    ]
    highest = max(score for score, _ in scores if score == score)
    return [values for score, values in scores if score > highest - 1e-9]


def values_of(resolved: RunPlan, keys: Iterable[str]) -> dict[str, Any]:
    """The values that a plan has for some settings."""
    parts = (resolved.optimizer, resolved.strategy, resolved.regime, resolved.training)
    used = {key: value for part in parts for key, value in part.model_dump().items()}
    return {key: used[key] for key in keys}


@pytest.mark.parametrize(("benchmark", "method"), SEARCHES)
def test_tuned_values_are_the_winners_of_the_recorded_search(benchmark: str, method: str) -> None:
    folder = ROOT / "results/tuning" / benchmark
    every = (folder / f"{method}{further}.csv" for further in ("", "-finer", "-slower"))
    winners = winners_of([path for path in every if path.exists()])
    configuration = project()
    params = configuration.params.model_copy(
        update={"benchmark": benchmark, "optimizer": configuration.params.optimizer.model_copy(update={"name": "sgd"})}
    )
    resolved = resolve_run(type(configuration)(params, configuration.benchmarks, configuration.methods), method)
    assert values_of(resolved, winners[0]) in winners


def test_a_search_that_pruned_or_tried_the_size_of_batches_can_be_held_beside_a_plan(tmp_path: Path) -> None:
    measures = dict.fromkeys(MEASURES, 0.5)
    tried: list[tuple[Point, list[Outcome]]] = [
        ({"batch_size": 5, "lr": 0.2}, [Outcome(101, "finished", [0.5], measures)]),
        ({"batch_size": 10, "lr": 0.2}, [Outcome(101, "pruned", [0.1], {})]),
    ]
    tabulate(tried, pruned=True).to_csv(tmp_path / "naive.csv", index=False)
    winners = winners_of([tmp_path / "naive.csv"])
    assert winners == [{"batch_size": 5, "lr": 0.2}]
    assert values_of(resolve_run(project(), "naive"), winners[0]) in winners


@pytest.mark.parametrize("benchmark", sorted(project().benchmarks))
def test_every_benchmark_runs_with_the_configured_methods(benchmark: str) -> None:
    configuration = project()
    params = configuration.params.model_copy(update={"benchmark": benchmark})
    chosen = type(configuration)(params, configuration.benchmarks, configuration.methods)
    assert resolve_data(chosen).datasets
    for method in params.methods:
        assert resolve_run(chosen, method).optimizer.lr > 0
