"""Stage `plan`: params.yaml + benchmarks.yaml + methods.yaml -> runs/<method>.yaml, runs/data.yaml.

Resolves one plan for each method, and one for the data. With --check it writes nothing, and only reports mistakes and
settings that have no effect.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

import sys

from ruamel.yaml import YAML

from pipeline.config import DataPlan, RunPlan, read_configuration, resolve_data, resolve_run
from pipeline.config.plan import without_effect
from pipeline.support.errors import note, run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Check the whole configuration, then write all plans at once."""
    configuration = read_configuration()
    plans: dict[str, DataPlan | RunPlan] = {"data": resolve_data(configuration)}
    plans |= {method: resolve_run(configuration, method) for method in configuration.params.methods}
    for text in without_effect(configuration):
        note("plan", text)
    if "--check" in sys.argv[1:]:
        return
    with whole_folder("runs") as folder:
        for name, plan in plans.items():
            YAML().dump(plan.model_dump(exclude_none=True), folder / f"{name}.yaml")


if __name__ == "__main__":
    run_stage("plan", main)
