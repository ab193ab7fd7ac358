"""Stage `eigenspectrum`: the curvature of each task's loss, for one run.

    runs/<method>.yaml + models/<method>/<seed>/ + data/tasks/
    -> metrics/runs/<method>/<seed>.eigenspectrum.json, eigenvectors/<method>/<seed>/

Computes for each task the largest eigenvalues of the Hessian of its loss right after it was learnt, whatever else
the `eigenspectrum` section of params.yaml asks for, and the distance of all weights from those after the first task.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import read_run_plan
from pipeline.config.reading import read_sections
from pipeline.handover.documents import text_of, write_document
from pipeline.handover.manifests import EigenvectorsManifest
from pipeline.handover.spectra import Spectra
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError, run_stage
from pipeline.support.files import whole_file, whole_folder
from stages.runs import RunFiles, checkpoint, code_of, run_from_arguments

if TYPE_CHECKING:
    from pipeline.config.sections import Eigenspectrum
    from pipeline.spectra.eigenspectrum import RunSpectra


def main() -> None:
    """Compute the eigenspectra of one run."""
    run = run_from_arguments()
    plan, tasks, sections = read_run_plan(run.plan), Tasks.open("data/tasks", run.seed), read_sections()
    settings = sections.eigenspectrum

    import torch
    from tqdm import tqdm

    from pipeline.models import build_model_for, load_checkpoint
    from pipeline.spectra.eigenspectrum import Examiner
    from pipeline.support.compute import machine, portable, prepare
    from pipeline.support.scratch import Scratch, fingerprint

    device = prepare(sections.compute)
    if settings.polish and device.type == "mps":
        raise UserError("params.yaml: eigenspectrum.polish: an mps device has no float64; set it to false")
    model = build_model_for(plan.model, tasks).to(device).eval()

    def restore(task: int) -> None:
        load_checkpoint(model, checkpoint(run.checkpoints, task), device)

    def done() -> None:
        bar.update()

    weights = [checkpoint(run.checkpoints, task) for task in range(len(tasks))]
    inputs = [run.plan, tasks.folder / "manifest.json", *weights, *code_of("eigenspectrum")]
    words = (settings, device.type, sections.compute.threads, portable(device), torch.__version__)
    key = fingerprint(inputs, *words)
    name = f"eigenspectrum {run.name}"
    with (
        run.logged("eigenspectrum") as log,
        Scratch(run.scratch("eigenspectrum"), key, name) as scratch,
        tqdm(unit="task", disable=None, leave=False) as bar,
    ):
        log["machine"] = machine(device)
        scratch.unrecorded()
        examiner = Examiner(
            model, tasks, plan.model.outputs, settings, restore, sections.compute.memory_bytes, bar.set_postfix_str
        )
        bar.reset(examiner.steps())
        bar.set_description(name)
        try:
            found = examiner.run(done, scratch)
        except FloatingPointError as error:
            raise UserError(
                f"{run.name}: {error}; its training has come close to diverging: lower the learning rate of {run.method}"
            ) from None
        dtype = torch.float64 if settings.polish else next(model.parameters()).dtype
        text = _text(run, found, settings, str(dtype).removeprefix("torch."))
        scratch.finish(text, keep_state=True)
        _write(run, text, found, settings)
        scratch.settle()
        log["resumed"], log["seconds_before"] = scratch.resumed, round(scratch.seconds_before, 3)


def _text(run: RunFiles, found: RunSpectra, settings: Eigenspectrum, dtype: str) -> str:
    """The metrics file of the stage; `dtype`: the floating-point type of the eigenpairs, as in float32."""
    record: dict[str, Any] = {
        "distance_from_task_1": found.distances,
        "dtype": dtype,
        "images": settings.images,
        "matrix": settings.matrix,
        "seed": settings.seed,
        "solver": settings.solver,
        "tasks": found.entries,
    }
    if found.end_of_stream:
        record["end_of_stream"] = found.end_of_stream
    return text_of(Spectra, record, run.eigenspectrum)


def _write(run: RunFiles, text: str, found: RunSpectra, settings: Eigenspectrum) -> None:
    """Write the outputs of the stage, all of them or none."""
    import torch
    from safetensors.torch import save_file

    with (
        whole_folder(Path("eigenvectors") / run.method / str(run.seed)) as folder,
        whole_file(run.eigenspectrum) as file,
    ):
        # DVC requires its outputs to exist, even if no eigenvectors are saved: so there is always a manifest.
        manifest = {"saved": settings.save_vectors, "k": settings.k}
        write_document(EigenvectorsManifest, manifest, folder / "manifest.json")
        for task, vectors in enumerate(found.vectors):
            kept = {"eigenvectors": vectors.T.contiguous()}  # one row per eigenvector
            kept["eigenvalues"] = torch.tensor(found.entries[task]["eigenvalues"], dtype=vectors.dtype)
            save_file(kept, checkpoint(folder, task))
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_stage("eigenspectrum", main)
