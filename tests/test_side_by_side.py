"""Stages side by side: the same lock, the same bytes, failures told."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pipeline.repro import lock_order
from tests.clones import RUNS, Clone, everything, fresh_clone, one_line, stages


def side_by_side(clone: Clone, *arguments: str, status: int | None = 0) -> str:
    return clone.run(sys.executable, "-m", "pipeline.repro", *arguments, status=status)


def test_stages_side_by_side_give_the_same_lock_and_the_same_bytes(base: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path)
    dry = side_by_side(clone, "--dry").split()
    assert set(dry) == stages("plan", "download", "split", "summarize", "figures", runs=RUNS)
    assert dry.index("split") < dry.index("train@naive-1") < dry.index("eigenspectrum@naive-1") < dry.index("summarize")
    assert "dvc repro finds nothing more to do" in side_by_side(clone, "-j", "3")
    assert (clone.folder / "dvc.lock").read_bytes() == (base.folder / "dvc.lock").read_bytes()
    for method in ("naive", "stable-ewc"):
        assert everything(clone, method) == everything(base, method)
    assert "nothing to do" in side_by_side(clone)
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
    assert set(side_by_side(clone, "--dry", "train").split()) == {
        "plan", "download", "split", "train@naive-1", "train@stable-ewc-1",
    }  # fmt: skip


def test_a_stage_that_fails_is_shown_and_what_does_not_need_it_may_go_on(clone: Clone) -> None:
    clone.edit("params.yaml", "  lr: null", "  lr: 1000000.0")
    clone.edit("benchmarks.yaml", "ewc_lambda: 1000.0", "ewc_lambda: 500.0")
    text = side_by_side(clone, "-j", "2", "--keep-going", status=2)
    assert "train@naive-1: FAILED" in text
    assert "the loss is" in text
    assert re.search(r"^eigenspectrum@stable-ewc-1: \d", text, re.MULTILINE)
    assert text.rstrip().splitlines()[-1].startswith("repro: 1 of ")
    assert side_by_side(clone, "--dry").split()[0] == "train@naive-1"


def test_an_unknown_target_is_a_line(clone: Clone) -> None:
    assert "no stage 'trian' in dvc.yaml; did you mean 'train" in one_line(side_by_side(clone, "trian", status=2))
    assert "--jobs 0: at least 1" in one_line(side_by_side(clone, "-j", "0", status=2))


def test_a_scheduler_that_does_not_answer_is_a_line(clone: Clone) -> None:
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
    text = one_line(side_by_side(clone, "--scheduler", "tcp://127.0.0.1:9", status=2))
    assert "--scheduler tcp://127.0.0.1:9: no scheduler answers" in text


def test_the_lock_keeps_its_order_and_takes_new_stages_in_that_of_the_graph() -> None:
    text = "schema: '2.0'\nstages:\n" + "".join(f"  {name}:\n    cmd: {name}\n" for name in ("d", "a", "c@1", "b"))
    ordered = lock_order(["a", "b"], text, ["b", "c@1", "d"])
    assert ordered.startswith("schema: '2.0'\nstages:\n")
    assert re.findall("cmd: (.+)", ordered) == ["a", "b", "c@1", "d"]
    assert sorted(ordered.splitlines()) == sorted(text.splitlines())
