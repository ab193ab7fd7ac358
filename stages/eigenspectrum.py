"""eigenspectrum: models/<method>/<seed>/ + data/tasks/ -> metrics/runs/<method>/<seed>.eigenspectrum.json.

For each task the largest eigenvalues of the Hessian of its loss right after it was learnt, and the distance of all weights
from those after the first task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.benchmarks.store import Tasks
from pipeline.config import read_run_plan
from pipeline.errors import run_stage
from pipeline.files import significant, write_json
from stages.runs import checkpoint, read_sections, run_from_arguments

if TYPE_CHECKING:
    from torch import Tensor


def main() -> None:
    """Eigenspectra of one run."""
    run = run_from_arguments()
    plan, tasks, sections = read_run_plan(run.plan), Tasks.open("data/tasks"), read_sections()
    settings = sections.eigenspectrum

    import torch
    import torch.nn.functional as F
    from tqdm import tqdm

    from pipeline.compute import machine, prepare
    from pipeline.curvature import HessianOperator, deflated_power_iteration
    from pipeline.models import build_model, load_checkpoint, load_task, outputs_of_tasks

    device = prepare(sections.compute)
    outputs = outputs_of_tasks(tasks.classes, plan.model.outputs)
    model = build_model(plan.model, tasks.image_shape, tasks.classes).to(device).eval()
    entries: list[dict[str, Any]] = []
    distances: list[float] = []
    first: Tensor | None = None
    with (
        run.logged("eigenspectrum") as log,
        tqdm(total=len(tasks), desc=f"eigenspectrum {run.name}", unit="task", disable=None, leave=False) as bar,
    ):
        log["machine"] = machine(device)
        for number in range(len(tasks)):
            load_checkpoint(model, checkpoint(run.checkpoints, number), device)
            weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
            first = weights if first is None else first
            distances.append(significant(float(torch.linalg.vector_norm((weights - first).double()))))
            task = load_task(tasks, number, settings.images, outputs, device)

            def loss(images: Tensor, labels: Tensor, number: int = number) -> Tensor:
                return F.cross_entropy(model(images, number), labels)

            def show(pair: int, residual: float, number: int = number) -> None:
                bar.set_postfix_str(f"task {number + 1}, pair {pair + 1}, residual {residual:.1e}")

            operator = HessianOperator(loss, model.parameters(), [(task.images, task.labels)])
            result = deflated_power_iteration(
                operator,
                min(settings.k, operator.shape[0]),
                tolerance=settings.tolerance,
                max_products=settings.max_products,
                seed=settings.seed,
                report=show,
            )
            entries.append(
                {
                    "task": number + 1,
                    "eigenvalues": [significant(value) for value in result.eigenvalues.tolist()],
                    # Two digits: a residual is a bound on the error, and its last digits are rounding.
                    "relative_residuals": [significant(value, 2) for value in result.relative_residuals.tolist()],
                    "converged": result.converged.tolist(),
                    "products": result.matvecs,
                    "examples": operator.examples,
                    "parameters": operator.shape[0],
                }
            )
            bar.update()
        write_json(
            run.eigenspectrum,
            {
                "distance_from_task_1": distances,
                "dtype": str(weights.dtype).removeprefix("torch."),
                "images": settings.images,
                "seed": settings.seed,
                "tasks": entries,
            },
        )


if __name__ == "__main__":
    run_stage("eigenspectrum", main)
