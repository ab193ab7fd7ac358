"""Imports cost seconds a stage: what must not come along."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.optimizers.build import UPDATE_RULES
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("pipeline.commands.app", ["torch", "numpy", "pandas", "matplotlib", "dvc", "optuna", "pydantic"]),
        ("stages.plan", ["torch", "matplotlib", "pandas", "dvc"]),
        ("stages.download", ["torch", "matplotlib", "pandas", "dvc"]),
        ("stages.split", ["torch", "matplotlib", "pandas", "dvc"]),
        ("stages.train", ["torch", "torchvision", "matplotlib", "pandas", "dvc"]),
        ("stages.summarize", ["torch", "matplotlib", "dvc"]),
        ("stages.figures", ["torch", "dvc"]),
    ],
)
def test_an_import_brings_nothing_heavy_that_it_does_not_need(module: str, unwanted: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_update_rule_brings_the_compiler_and_what_can_be_lifted_out_no_more_than_pytorch() -> None:
    code = (
        "import sys, torch, pipeline.curvature\n"
        "from pipeline.optimizers import begin_task, build_optimizer\n"
        "unwanted = ['dvc', 'torchvision', 'matplotlib', 'pandas', 'pydantic']\n"
        "print([name for name in unwanted if name in sys.modules])\n"
        f"for name in {list(UPDATE_RULES)}:\n"
        "    weight = torch.ones(2, requires_grad=True)\n"
        "    rule = build_optimizer([weight], name, 0.1)\n"
        "    begin_task(rule)\n"
        "    weight.sum().backward()\n"
        "    rule.step()\n"
        "    rule.zero_grad()\n"
        "    rule.load_state_dict(rule.state_dict())\n"
        "    print(name, weight.tolist() != [1, 1], 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", *(f"{name} True False" for name in UPDATE_RULES)]


def test_what_can_be_lifted_out_works_under_another_name_where_there_is_no_pipeline(tmp_path: Path) -> None:
    for package in ("optimizers", "curvature"):
        shutil.copytree(ROOT / "pipeline" / package, tmp_path / "mylib" / package)
    code = (
        "import importlib, pkgutil, sys, torch\n"
        # An editable install adds finders: what they would find must not be found here.
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.modules['pipeline'] = None\n"
        "import mylib.curvature, mylib.optimizers\n"
        "for package in (mylib.curvature, mylib.optimizers):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "weight = torch.ones(2, requires_grad=True)\n"
        "optimizer = mylib.optimizers.TAG([weight], lr=0.1)\n"
        "optimizer.begin_task()\n"
        "weight.square().sum().backward()\n"
        "optimizer.step()\n"
        "loss = lambda inputs: (inputs * weight).square().mean()\n"
        "operator = mylib.curvature.HessianOperator(loss, [weight], [(torch.ones(3, 2),)])\n"
        "mylib.curvature.deflated_power_iteration(operator, k=1)\n"
        "print([name for name, module in sys.modules.items() if module and name.split('.')[0] == 'pipeline'])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr[-400:]) == (0, "[]\n", "")


def test_every_module_of_the_library_can_be_imported() -> None:
    found = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
    assert len(found) > 100
    for name in found:
        importlib.import_module(name)
