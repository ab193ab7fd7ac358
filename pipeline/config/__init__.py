"""Typed parameters: the schema of the YAML files, the checks on them, and their resolution into plans."""

from pipeline.config.plan import DataPlan, RunPlan, read_data_plan, read_run_plan, resolve_data, resolve_run
from pipeline.config.reading import Configuration, read_configuration

__all__ = [
    "Configuration",
    "DataPlan",
    "RunPlan",
    "read_configuration",
    "read_data_plan",
    "read_run_plan",
    "resolve_data",
    "resolve_run",
]
