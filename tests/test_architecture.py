"""The house: arrows point down only, every file is in a room, and what can be lifted out stands alone."""

from __future__ import annotations

import grimp
import pytest

from tests.paths import ROOT

#: From the bottom up: a room imports from those before it, and from those beside it.
ROOMS = (
    ("support",),
    ("config",),
    ("handover", "optimizers", "curvature"),
    ("datasets",),
    ("streams",),
    ("models",),
    ("strategies",),
    ("analysis",),
    ("training", "spectra", "figures"),
    ("report", "experiments", "search", "parallel"),
    ("commands",),
    ("stages", "__main__"),
)
#: Arrows that point up all the same, and why.
UPWARD = {
    ("pipeline.handover.runs", "pipeline.analysis.metrics"): "a run's metrics are checked against its accuracy matrix",
    ("pipeline.handover.runs", "pipeline.analysis.continual"): "and against its continual evaluation",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "stages", exclude_type_checking_imports=True)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else parts[0]


def test_arrows_point_down_only(graph: grimp.ImportGraph) -> None:
    floor = {name: number for number, names in enumerate(ROOMS) for name in names}
    upward = {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if room(module) != room(imported) and imported != "pipeline"
        if floor[room(imported)] > floor[room(module)]
    }
    assert upward == set(UPWARD)


def test_every_file_is_in_a_room() -> None:
    assert {path.name for path in (ROOT / "pipeline").iterdir() if path.suffix == ".py"} == {
        "__init__.py",
        "__main__.py",
    }
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {name for names in ROOMS for name in names} - {"stages", "__main__"}


@pytest.mark.parametrize("liftable", ["pipeline.optimizers", "pipeline.curvature"])
def test_what_can_be_lifted_out_imports_nothing_of_the_rest(graph: grimp.ImportGraph, liftable: str) -> None:
    needed = graph.find_upstream_modules(liftable, as_package=True)
    assert {name for name in needed if not f"{name}.".startswith(f"{liftable}.")} == set()
