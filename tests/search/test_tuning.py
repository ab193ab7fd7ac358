"""Searches: what is recorded, what is tried next, and what is pruned."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import grimp
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.config import Configuration, DataPlan, read_configuration
from pipeline.config.data import SplitStream
from pipeline.datasets.sources import fetch
from pipeline.search import tuning
from pipeline.search.record import read_record, settings_in
from pipeline.search.search import CODE, Search
from pipeline.search.space import grid, read_space
from pipeline.search.study import Study, opened
from pipeline.search.trials import MEASURES, Outcome, Work, bars, carry_out, running_means
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import UserError
from pipeline.training.loop import train
from tests.configuration import project
from tests.conftest import rotated_digits, run_plan
from tests.paths import ROOT, edit
from tests.search import opened_of, search

RECORDS = sorted((ROOT / "results/tuning").glob("*/*.csv"))


def outcome(seed: int, *course: float, ended: Any = "finished") -> Outcome:
    return Outcome(seed, ended, list(course), {"average_accuracy": course[-1]} if ended == "finished" else {})


def test_a_value_out_of_range_is_told_even_at_the_end_of_a_range() -> None:
    for words in (["lr=-1.0"], ["lr=-1.0..1"]):
        with pytest.raises(UserError, match="must be greater than 0"):
            search(words, sampler="tpe").check()
    with pytest.raises(UserError, match=r"has no 'naiv'; did you mean 'naive'"):
        search(["lr=1"], "naiv").check()


def test_a_search_records_every_run_best_first_and_divergence_last(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder / "benchmarks.yaml", "    batch_size: 5 ", "    batch_size: 20 ")
    tuning.tune(["naive", "lr=0.00001,1000000.0,0.2"], seeds=[7, 8], jobs=1)
    path = folder / "results/tuning/rotated-digits/naive.csv"
    table = pd.read_csv(path)
    assert list(table) == ["lr", "seed", *MEASURES]
    assert table["lr"].tolist() == [0.2, 0.2, 1e-5, 1e-5, 1e6, 1e6]
    assert table["average_accuracy"].isna().tolist() == [False] * 4 + [True] * 2
    out = capsys.readouterr().out
    assert "naive.csv" in out
    assert re.search(r"(?m)^1000000\.0+( +NaN)+$", out)
    written = path.read_bytes()
    tuning.tune(["naive", "lr=0.00001,1000000.0,0.2"], seeds=[7, 8], jobs=1)  # nothing is left to run
    assert path.read_bytes() == written
    with pytest.raises(UserError, match=r"study\.db: holds another search \(its values, plan differ\)"):
        tuning.tune(["naive", "lr=0.1"], seeds=[7, 8], jobs=1)


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        (["lr=1"], {}, "name a method to tune"),
        (["naive"], {}, "nothing to search"),
        (["naive", "lr=1"], {"benchmark": "rotated-digit"}, "did you mean 'rotated-digits'"),
        (["naive", "tag", "lr=1"], {"record": "both"}, "one record for several methods"),
        (["naive", "lr=1"], {"trials": 3}, "a grid has as many trials as points"),
        (["naive", "lr=1"], {"sampler_seed": 0}, "a grid draws nothing"),
        (["tag", "naive", "b=1,3"], {}, "'b': changes nothing for naive"),  # before tag, the first, runs
    ],
)
def test_mistakes_are_told_before_anything_runs(folder: Path, words: list[str], given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        tuning.tune(words, **given)
    assert not (folder / "scratch").exists()


def test_a_search_knows_the_plans_of_all_its_values(folder: Path) -> None:
    def key() -> Any:
        return Search(read_configuration(folder), "tag", read_space(["base=rmsprop,adam"]), (1,)).key()["plan"]

    before = key()
    text = (folder / "benchmarks.yaml").read_text(encoding="utf-8")
    rate = re.search(r"    tag-adam:\n      lr: (\S+)\n", text)
    assert rate
    (folder / "benchmarks.yaml").write_text(text.replace(rate[0], rate[0].replace(rate[1], "0.0123")), encoding="utf-8")
    assert key() != before


def test_without_optuna_the_way_to_install_it_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "find_spec", lambda name: None if name == "optuna" else find_spec(name))
    with pytest.raises(UserError, match=r"needs Optuna; install it with: python -m pip install .* '\.\[search\]'"):
        tuning.tune(["naive", "lr=0.1"])


def test_only_the_study_brings_optuna() -> None:
    code = (
        "import sys; import pipeline.search.tuning, pipeline.search.record, pipeline.search.best\n"
        "print([name for name in ('optuna', 'sqlalchemy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_null_that_is_searched_or_the_method_sets_is_what_runs(folder: Path) -> None:
    edit(folder / "benchmarks.yaml", "  strategies:\n", "  strategies:\n    agem:\n      memory_batch: 32\n")
    search = Search(read_configuration(folder), "agem", read_space(["memory_batch=null,64"]), (1,))
    search.check()
    assert [search.plan(point).strategy.value_of("memory_batch") for point in grid(search.space)] == [None, 64]
    edit(folder / "methods.yaml", "\nagem:\n", "\nagem:\n  memory_batch: null\n")
    rate = Search(read_configuration(folder), "agem", read_space(["lr=0.1"]), (1,))
    assert rate.plan({"lr": 0.1}).strategy.value_of("memory_batch") is None


def test_no_test_image_is_read(folder: Path) -> None:
    """The images that a search judges by are all of them training images."""
    asked = Search(read_configuration(folder), "naive", read_space(["lr=0.1"]), (1,))
    assert asked.configuration.benchmark.evaluation == "test"
    tuning._write_data(folder / "validation", asked)
    params, benchmarks, methods = vars(asked.configuration).values()
    test = params.model_copy(update={"benchmark": "rotated-digits"})
    official = Search(Configuration(test, benchmarks, methods), "naive", asked.space, (1,))
    assert official.data.evaluation == "validation"
    from pipeline.config import resolve_data
    from pipeline.datasets.sources import fetch
    from pipeline.streams.writer import write_tasks

    (folder / "test").mkdir()
    write_tasks(folder / "test", resolve_data(asked.configuration), [fetch("digits")])
    judged, training, unseen = set[bytes](), set[bytes](), set[bytes]()
    for task in range(2):
        judged |= {bytes(image) for image in Tasks.open(folder / "validation").split(task, "test")[0]}
        training |= {bytes(image) for image in Tasks.open(folder / "test").split(task, "train")[0]}
        unseen |= {bytes(image) for image in Tasks.open(folder / "test").split(task, "test")[0]}
    assert judged <= training
    assert not judged & unseen


@pytest.fixture
def _arithmetic_kept() -> Iterator[None]:
    """Of this process, which a search prepares as that of a stage; other tests have denormal numbers."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


@pytest.mark.usefixtures("_arithmetic_kept")
def test_each_run_of_a_trial_has_the_tasks_that_its_seed_draws(tmp_path: Path) -> None:
    """On a stream of which every run draws the order of the classes."""
    stream = SplitStream(name="split", tasks=2, last_class=3, order="run")
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks", DataPlan(datasets=["digits"], stream=stream, evaluation="test"), [fetch("digits")])
    outcomes = carry_out(Work(run_plan(), {"lr": 0.1}, (1, 2), tmp_path, "key"))
    tasks = [Tasks.open(tmp_path / "tasks", seed) for seed in (1, 2)]
    assert tasks[0].classes != tasks[1].classes
    for seed, (found, drawn) in enumerate(zip(outcomes, tasks, strict=True), start=1):
        assert found.course == train(run_plan(), drawn, seed, torch.device("cpu")).course()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_committed_record_counts(path: Path) -> None:
    table = read_record(path)
    settings = settings_in(table)
    assert settings
    means = table.groupby(settings, sort=False)["average_accuracy"].apply(lambda values: values.mean(skipna=False))
    if means.notna().any():  # where all diverge, none is best
        assert means.iloc[0] == means.max()  # the best values come first
    configuration = project()
    params = configuration.params.model_copy(update={"benchmark": path.parent.name})
    words = [f"{key}={','.join(dict.fromkeys(table[key]))}" for key in settings]
    # A second search of a method has a name of its own: tag-b, online-ewc-finer.
    method = max((name for name in configuration.methods if f"{path.stem}-".startswith(f"{name}-")), key=len)
    chosen = Configuration(params, configuration.benchmarks, configuration.methods)
    Search(chosen, method, read_space(words), (1,)).check()  # the same values can be searched today


def test_what_is_not_a_record_is_told(tmp_path: Path) -> None:
    for text in ("", "notes\n", "lr,seed,average_accuracy,forgetting,learning_accuracy\n1,x,0,0,0\n"):
        (tmp_path / "a.csv").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="is not the record of a search"):
            read_record(tmp_path / "a.csv")


def test_bars_are_medians_of_the_means_over_the_seeds_so_far() -> None:
    trials = [
        [outcome(1, 0.9, 0.5), outcome(2, 0.7, 0.1)],
        [outcome(1, 0.8, 0.6), outcome(2, 0.8, 0.2)],
        [outcome(1, 0.7, 0.7), outcome(2, 0.9, 0.9)],
    ]
    assert running_means(trials[0]) == [pytest.approx([0.9, 0.5]), pytest.approx([0.8, 0.3])]
    assert bars(trials) == [pytest.approx([0.8, 0.6]), pytest.approx([0.8, 0.4])]
    assert bars(trials[:2]) == []  # too few to tell


def test_a_proposal_depends_on_its_number_and_on_earlier_batches_alone(tmp_path: Path) -> None:
    space = read_space(["lr=0.001..1:log", "b=1,3,5"])

    def told(name: str, accuracies: Sequence[float], before: int, sampler: str = "tpe") -> list[dict[str, Any]]:
        with opened(tmp_path / name, space, {}) as study:
            for accuracy in accuracies[len(study) :]:
                study.add(study.propose("random", 0, len(study), 0), [outcome(1, accuracy)])
        with opened(tmp_path / name, space, {}) as study:  # another process
            return [study.propose(sampler, 0, number, before) for number in (20, 21)]

    good, bad = [number / 20 for number in range(20)], [1 - number / 20 for number in range(20)]
    first = told("a.db", good, 20)
    assert first == told("a.db", good, 20)
    assert first == told("b.db", [*good[:20], 0.3], 20)  # what comes later is not looked at
    assert first[0] != first[1]
    assert first != told("c.db", bad, 20)
    assert told("a.db", good, 20, "random") == told("c.db", bad, 20, "random")
    with opened(tmp_path / "a.db", space, {}) as study, pytest.raises(UserError, match="holds another search"):
        with opened(tmp_path / "a.db", space, {"seeds": [1]}):
            pass
        assert len(study) == 20


def test_tpe_proposes_values_like_those_that_did_best(tmp_path: Path) -> None:
    """Accuracy is best at lr = 0.1, and falls to both sides."""

    def off(point: dict[str, Any]) -> float:
        return abs(math.log10(point["lr"]) + 1)

    with opened(tmp_path / "study.db", read_space(["lr=0.001..10:log"]), {}) as study:
        for number in range(40):
            point = study.propose("random", 0, number, 0)
            study.add(point, [outcome(1, 1 - off(point) / 2)])
        found = {
            sampler: median(off(study.propose(sampler, 0, number, 40)) for number in range(40, 60))
            for sampler in ("tpe", "random")
        }
    assert found["tpe"] < 0.5 * found["random"]


@pytest.mark.usefixtures("_arithmetic_kept")
@pytest.mark.parametrize(
    ("levels", "ended"),
    [
        ([[2, 0, 0], [2, 0, 0]], ["finished", "finished"]),  # the first task tells nothing
        ([[0, 2, 0], [0, 0, 0]], ["pruned"]),
        ([[0, 0, 0], [0, 2, 0]], ["finished", "pruned"]),
        ([[0, 0, 2], [0, 0, 0]], ["pruned"]),
        ([[0, 0, 0], [0, 0, 2]], ["finished", "finished"]),  # there is nothing to save any more
        ([], ["finished", "finished"]),
    ],
)
def test_a_run_is_judged_by_the_bar_of_its_seed_and_task(tmp_path: Path, levels: Any, ended: list[str]) -> None:
    """No run reaches 2, and each reaches 0."""
    (tmp_path / "tasks").mkdir()
    rotated_digits(tmp_path / "tasks", 3)
    plan = run_plan(training={"batch_size": 64, "epochs": 1})
    outcomes = carry_out(Work(plan, {"lr": 0.1}, (1, 2), tmp_path, "key", levels))
    assert [found.ended for found in outcomes] == ended


@pytest.mark.parametrize("text", ["", "no database"])
def test_a_file_that_is_no_study_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.db").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"study\.db: .*; delete"), opened(tmp_path / "study.db", {}, {}):
        pass


def test_a_clearly_bad_trial_is_pruned_after_the_first_task_that_tells(folder: Path) -> None:
    edit(folder / "benchmarks.yaml", "    batch_size: 5 ", "    batch_size: 20 ")
    tuning.tune(["naive", "lr=0.2,0.1,0.15,1e-6,0.12"], seeds=[7, 8], jobs=1, prune=True, batch=3)
    table = read_record(folder / "results/tuning/rotated-digits/naive.csv")
    assert table["ended"].value_counts().to_dict()["finished"] >= 6
    bad = table[table["lr"] == "1e-06"]
    assert bad["ended"].tolist() == ["pruned"]  # its second seed was not run
    assert bad["average_accuracy"].isna().all()
    with opened_of(folder) as study:
        trial, best = study.get_trials()[3], study.best_trial
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert len(trial.intermediate_values) == 2  # the first task tells nothing: nothing can have been forgotten
    assert len(best.intermediate_values) == 4


def test_a_search_on_ones_own_images_is_not_continued_on_others(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name in "abcdefghij":
        for number in range(5):
            path = folder / "mine" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    edit(folder / "benchmarks.yaml", "path: my-images", "path: mine")

    def search() -> None:
        tuning.tune(["naive", "lr=0.1,0.2"], benchmark="own-images", seeds=[7], jobs=1)

    search()
    search()  # nothing is left to run
    (folder / "mine/a/0.png").write_bytes((folder / "mine/b/0.png").read_bytes())
    with pytest.raises(UserError, match=r"tune/own-images/naive: the trials .* had other images than there are now"):
        search()


def test_the_code_of_a_search_is_all_that_a_training_imports() -> None:
    imported = grimp.build_graph("pipeline").find_upstream_modules("pipeline.search.trials")
    assert {module.split(".")[1] for module in imported if module.count(".") > 1} - {"search"} == set(CODE)


def test_studies_know_their_trials_in_the_order_of_the_space(tmp_path: Path) -> None:
    space = read_space(["lr=0.1,0.2", "b=1,3"])
    with opened(tmp_path / "a.db", space, {}) as study:
        assert isinstance(study, Study)
        study.add({"b": 3, "lr": 0.2}, [outcome(1, 0.5)])
        assert [list(point.items()) for point, _ in study.trials()] == [[("lr", 0.2), ("b", 3)]]
