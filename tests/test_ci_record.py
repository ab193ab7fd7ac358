"""What .ci/run says where the committed record does not come out again."""

from __future__ import annotations

import copy
import importlib.util
from types import ModuleType
from typing import Any

import pytest

from tests.paths import ROOT

LOCK: dict[str, Any] = {
    "stages": {
        "train@tag-1": {
            "deps": [{"path": "pipeline/training/loop.py", "md5": "a"}, {"path": "runs/tag.yaml", "md5": "b"}],
            "outs": [{"path": "metrics/runs/tag/1.json", "md5": "c"}],
        },
        "plan": {"outs": [{"path": "runs/tag.yaml", "md5": "b"}]},
    }
}


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", ROOT / ".ci/record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_same_lock_is_no_difference(record: ModuleType) -> None:
    assert record.differences(LOCK, copy.deepcopy(LOCK)) == []


def test_each_stage_and_file_that_differs_is_named_once(record: ModuleType) -> None:
    now = copy.deepcopy(LOCK)
    now["stages"]["train@tag-1"]["outs"][0]["md5"] = "other"
    now["stages"]["plan"]["outs"][0]["md5"] = now["stages"]["train@tag-1"]["deps"][1]["md5"] = "other"
    now["stages"]["train@tag-1"]["deps"][0]["md5"] = "other"
    assert record.differences(LOCK, now) == [
        "plan: output runs/tag.yaml differs",
        "train@tag-1: output metrics/runs/tag/1.json differs",
        "train@tag-1: dependency pipeline/training/loop.py differs",
    ]
    del now["stages"]["plan"]
    assert "plan: output runs/tag.yaml is missing" in record.differences(LOCK, now)


def test_the_processor_is_named(record: ModuleType) -> None:
    assert record.processor()
