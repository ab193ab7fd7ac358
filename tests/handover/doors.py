"""Every door that a file comes in by: a valid file, its reader, and what another reader makes of the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from PIL import Image
from ruamel.yaml import YAML

from pipeline.analysis.published import read_published
from pipeline.analysis.runs import RunMetrics
from pipeline.analysis.summary import summarize, summary_table
from pipeline.analysis.tables import tables
from pipeline.config import read_configuration, read_data_plan, read_run_plan
from pipeline.datasets import official, pickles
from pipeline.datasets.archives import members
from pipeline.datasets.images import decode, quiet
from pipeline.datasets.raw import read_raw
from pipeline.datasets.raw_writer import write_raw
from pipeline.experiments.experiments import read_experiments
from pipeline.figures import read_tables
from pipeline.handover.documents import Document, read_document
from pipeline.handover.logs import Log
from pipeline.handover.plots import SUMMARY
from pipeline.handover.runs import Record, Trained
from pipeline.handover.spectra import Spectra
from pipeline.handover.tables import read_table
from pipeline.models import build_model, load_checkpoint, save_checkpoint
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError
from pipeline.support.scratch import Scratch
from tests.conftest import rotated_digits, run_plan
from tests.paths import ROOT

#: Stands for: the bytes tell nothing that could be compared.
ANYTHING = object()


@dataclass(frozen=True)
class Door:
    """prepare: writes all files of a folder. file: the one that is changed. read: everything that the door lets in; raises
    UserError. other: the same from the changed bytes, by other means; or ANYTHING. text: whether words are changed, too."""

    prepare: Callable[[Path], None]
    file: str
    read: Callable[[Path], Any]
    other: Callable[[bytes], Any] = lambda data: ANYTHING
    text: bool = True


def run(name: str, seed: int, tasks: int = 2) -> RunMetrics:
    """A run as its stages write it."""
    matrix = [[round(0.1 + 0.7 * (j < i) - 0.01 * i, 6) for j in range(tasks)] for i in range(tasks + 1)]
    from pipeline.analysis.continual import continual_metrics
    from pipeline.analysis.metrics import all_metrics

    course = [[[0.5] * (t + 1), [0.25] * t + [0.75]] for t in range(tasks)]

    train: dict[str, Any] = {
        **{metric: round(value, 6) for metric, value in all_metrics(matrix).items()},
        **{metric: round(value, 6) for metric, value in continual_metrics(course).items()},
        "continual": {"steps": [[4, 9]] * tasks, "accuracy": course},
        "classes": [[2 * t, 2 * t + 1] for t in range(tasks)],
        "accuracy": matrix,
        "test_loss": [[1.5] * tasks] * (tasks + 1),
        "train_loss": [[1.0, 0.5]] * tasks,
        "alpha": [[[1.0 + j for j in range(t + 1)]] * 2 for t in range(tasks)],
    }
    spectra: list[dict[str, Any]] = [
        {
            "task": t + 1, "eigenvalues": [9.0, -1.5], "relative_residuals": [0.001, 0.1], "converged": [True, False],
            "products": 40, "examples": 50, "parameters": 60,
            "movement": [
                {
                    "task": later + 1, "distance": 1.5, "overlap": 0.01, "lambda_distance_squared": 2.5,
                    "gradient_term": -0.25, "quadratic_term": 0.5, "line_loss": [0.5, 0.625], "line_accuracy": [0.9, 0.8],
                }
                for later in range(t + 1, tasks)
            ],
            "density": {"nodes": [[-1.0, 9.0]], "weights": [[0.25, 0.75]]},
            "density_moments": {"trace": 5.0, "frobenius": 9.0, "products": 3},
            "moments": {"trace": 6.0, "trace_error": 1.0, "frobenius": 9.5, "frobenius_error": 0.5, "products": 3},
            "blocks": [
                {
                    "layer": "layers.linear1", "parameters": 7, "eigenvalue": 4.0, "relative_residual": 0.0001,
                    "converged": True, "products": 9,
                }
            ],
            "published": {"eigenvalues": [9.0, 1.0], "relative_residuals": [0.1, 0.2], "products": 3},
        }
        for t in range(tasks)
    ]  # fmt: skip
    for spectrum in spectra[-1:]:
        del spectrum["movement"]
    about = {"dtype": "float32", "images": "test", "matrix": "hessian", "seed": 0, "solver": "power"}
    distances = [1.5 * t for t in range(tasks)]
    return RunMetrics(name, seed, train, {"tasks": spectra, "distance_from_task_1": distances, **about})


RUNS = [run("naive", 1), run("naive", 2), run("stable", 1)]


def _written(path: str, text: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")

    return prepare


def _json(model: type[Document], value: Mapping[str, Any]) -> Door:
    return Door(
        _written("a.json", json.dumps(value, indent=2, sort_keys=True)),
        "a.json",
        lambda folder: read_document(model, folder / "a.json", "fix it").plain(),
        lambda data: _without_none(json.loads(data)),
    )


def _without_none(value: Any) -> Any:
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None} if isinstance(value, dict) else (
        [_without_none(inner) if isinstance(inner, dict) else inner for inner in value] if isinstance(value, list) else value
    )  # fmt: skip


def _configuration(file: str) -> Door:
    def prepare(folder: Path) -> None:
        for name in ("params.yaml", "benchmarks.yaml", "methods.yaml", "experiments.yaml"):
            (folder / name).write_bytes((ROOT / name).read_bytes())

    def read(folder: Path) -> Any:
        configuration = read_configuration(folder)
        if file == "params.yaml":
            return configuration.params.model_dump()
        if file == "experiments.yaml":
            found: Mapping[str, Any] = read_experiments(folder)
        else:
            found = configuration.benchmarks if file == "benchmarks.yaml" else configuration.methods
        return {name: entry.model_dump() for name, entry in found.items()}

    return Door(prepare, file, read, _Within)


class _Within:
    """Equal to a value that holds all that a YAML file says, and defaults beside it."""

    def __init__(self, data: bytes) -> None:
        self.said = YAML(typ="safe", pure=True).load(data.decode())

    def __eq__(self, other: object) -> bool:
        return _holds(other, self.said)

    __hash__ = object.__hash__


def _holds(value: Any, said: Any) -> bool:
    if isinstance(said, dict):
        return isinstance(value, dict) and all(
            key in value and _holds(value[key], inner) for key, inner in said.items()
        )
    return bool(type(value) is type(said) or isinstance(said, int | float)) and value == said


def _plan(path: str, read: Callable[[Path], Any]) -> Door:
    def prepare(folder: Path) -> None:
        plan = run_plan(
            strategy={"name": "ewc", "ewc_lambda": 1.0, "fisher": "batch", "fisher_batch": 20, "penalty_clip": 1.0}
        )
        data = {
            "datasets": ["digits"],
            "weights": "random",
            "evaluation": "test",
            "stream": {"name": "permuted", "tasks": 2},
        }
        YAML().dump(plan.model_dump(exclude_none=True), folder / "naive.yaml")
        YAML().dump(data, folder / "data.yaml")

    return Door(prepare, path, lambda folder: read(folder / path).model_dump(), _Within)


def _rows(frame: Any) -> list[dict[str, Any]]:
    return [{key: "" if value != value else value for key, value in row.items()} for row in frame.to_dict("records")]


class _SameRows:
    """Equal to rows with the same cells, numbers as close as two readers bring them."""

    def __init__(self, data: bytes) -> None:
        lines = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]
        self.rows = [dict(zip(lines[0], row, strict=True)) for row in lines[1:]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and len(other) == len(self.rows) and all(
            mine.keys() == theirs.keys() and all(_alike(mine[key], theirs[key]) for key in mine)
            for mine, theirs in zip(other, self.rows, strict=True)
        )  # fmt: skip

    __hash__ = object.__hash__


def _alike(value: Any, cell: str) -> bool:
    if isinstance(value, str):
        return value == cell
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower() == cell.lower()
    return math.isclose(float(value), float(cell), rel_tol=1e-12, abs_tol=1e-300)


def _plots(name: str) -> Door:
    def prepare(folder: Path) -> None:
        for table, frame in tables(RUNS).items():
            frame.to_csv(folder / f"{table}.csv", index=False)

    return Door(prepare, f"{name}.csv", lambda folder: _rows(read_tables(folder)[name]), _SameRows)


def _summary(folder: Path) -> None:
    runs = tables(RUNS)["runs"]
    summary_table(summarize(runs), "rotated-digits", runs).to_csv(folder / "summary.csv", index=False)


def _tasks(file: str) -> Door:
    """What is read is what was written, whichever file was changed: the manifest has a checksum of every split."""

    def prepare(folder: Path) -> None:
        rotated_digits(folder, 2)
        good.append(read(folder)[:2])

    def read(folder: Path) -> list[Any]:
        tasks = Tasks.open(folder)
        sums = [part.tobytes() for split in ("train", "test") for part in tasks.split(len(tasks) - 1, split)]
        return [sums[:2], sums[2:], tasks.first_images().shape]

    good: list[Any] = []
    return Door(prepare, file, lambda folder: read(folder)[:2], lambda data: good[-1], file.endswith(".json"))


def _raw(file: str) -> Door:
    def read(folder: Path) -> Any:
        ((train, test),) = [tuple(splits.values()) for splits in read_raw(folder)]
        return [train[1].tobytes(), test[1].tobytes(), train[0][np.arange(3)].shape]

    return Door(lambda folder: write_raw(folder, ["digits"]), file, read, text=file.endswith(".json"))


def _weights() -> Door:
    model = build_model(run_plan().model, (8, 8), [[0, 1]])

    def prepare(folder: Path) -> None:
        save_checkpoint(model, folder / "a.safetensors")

    def read(folder: Path) -> Any:
        load_checkpoint(model, folder / "a.safetensors", torch.device("cpu"))
        return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}

    def other(data: bytes) -> Any:
        return {name: tensor.tobytes() for name, tensor in safetensors.numpy.load(data).items()}

    return Door(prepare, "a.safetensors", read, other, text=False)


FILES = {"top/train/a/1.txt": b"one" * 300, "top/train/b/2.txt": b"two" * 300, "top/test/a/3.txt": b"three"}


def _archive(suffix: str) -> Door:
    def prepare(folder: Path) -> None:
        made = io.BytesIO()
        if suffix == ".zip":
            with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in FILES.items():
                    archive.writestr(name, data)
        else:
            with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as packed:
                for name, data in FILES.items():
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.pax_headers = len(data), {"comment": "x"}
                    packed.addfile(entry, io.BytesIO(data))
        data = made.getvalue()
        (folder / f"a{suffix}").write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)

    def read(folder: Path) -> Any:
        held = {member.name: member.read() for member in members(folder / f"a{suffix}") if not member.is_folder}
        return held if suffix == ".tar.gz" else sorted(map(type, held.values()), key=str)

    other = (lambda data: FILES) if suffix == ".tar.gz" else (lambda data: ANYTHING)
    return Door(prepare, f"a{suffix}", read, other, text=False)


def _image(kind: str) -> Door:
    def prepare(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"a.{kind}")

    def read(folder: Path) -> Any:
        with quiet():
            return decode((folder / f"a.{kind}").read_bytes(), "a", (8, 8, 3)).shape

    return Door(prepare, f"a.{kind}", read, lambda data: (8, 8, 3), text=False)


def _pickle() -> Door:
    def prepare(folder: Path) -> None:
        import pickle

        value = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3], "name": "a", "c": 1.5}
        (folder / "a.pkl").write_bytes(pickle.dumps(value, protocol=4))

    return Door(
        prepare, "a.pkl", lambda folder: type(pickles.loads((folder / "a.pkl").read_bytes(), "a")) and 0, text=False
    )


def _idx() -> Door:
    def prepare(folder: Path) -> None:
        head = bytes((0, 0, 8, 3)) + b"".join(size.to_bytes(4, "big") for size in (2, 3, 4))
        (folder / "a-ubyte.gz").write_bytes(gzip.compress(head + bytes(range(24))))

    def read(folder: Path) -> Any:
        return official._idx(folder / "a-ubyte.gz", 3).reshape(-1).tolist()

    return Door(prepare, "a-ubyte.gz", read, lambda data: list(range(24)), text=False)


def _scratch() -> Door:
    """A state that cannot be read is told, and the run starts over."""

    def prepare(folder: Path) -> None:
        with Scratch(folder / "run", "key", "train naive-1") as scratch:
            scratch.save("task 1", {"model": {"w": torch.arange(5.0)}})

    def read(folder: Path) -> Any:
        (folder / "run").mkdir(exist_ok=True)
        with Scratch(folder / "run", "key", "train naive-1") as scratch:
            held = scratch.load()
        if held is None:
            raise UserError("starting over")
        return held["key"] == "key"

    return Door(prepare, "run/state.pt", read, lambda data: True, text=False)


RECORD = next((ROOT / "results/stable-sgd-1-rotated/runs").glob("*.json"))

#: The tables of plots/ with every kind of column.
PLOTTED = ("runs", "accuracy", "eigenvalues", "alpha", "prediction", "line", "moments", "layers")

DOORS: dict[str, Door] = {
    "params.yaml": _configuration("params.yaml"),
    "benchmarks.yaml": _configuration("benchmarks.yaml"),
    "methods.yaml": _configuration("methods.yaml"),
    "experiments.yaml": _configuration("experiments.yaml"),
    "plan of a run": _plan("naive.yaml", read_run_plan),
    "plan of the data": _plan("data.yaml", read_data_plan),
    "metrics of a run": _json(Trained, RUNS[0].train),
    "eigenspectrum": _json(Spectra, RUNS[0].eigenspectrum or {}),
    "record": _json(Record, json.loads(RECORD.read_text(encoding="utf-8"))),
    "log": _json(Log, {"started": "2026", "machine": {"threads": 1, "portable": True}, "resumed": False, "seconds": 1.5}),
    **{f"plots/{name}.csv": _plots(name) for name in PLOTTED},
    "published.csv": Door(
        lambda folder: _written("a.csv", (ROOT / "published.csv").read_text(encoding="utf-8"))(folder),
        "a.csv", lambda folder: _rows(read_published(folder / "a.csv")), _SameRows,
    ),
    "summary.csv": Door(
        _summary, "summary.csv", lambda folder: _rows(read_table(folder / "summary.csv", SUMMARY, "fix it")), _SameRows
    ),
    "manifest of tasks": _tasks("manifest.json"),
    "images of a task": _tasks("task-02/train_images.npy"),
    "labels of a task": _tasks("task-02/test_labels.npy"),
    "first images": _tasks("first_images.npy"),
    "manifest of raw data": _raw("manifest.json"),
    "raw images": _raw("01-digits/train_images.npy"),
    "weights": _weights(),
    "tar": _archive(".tar"),
    "tar.gz": _archive(".tar.gz"),
    "zip": _archive(".zip"),
    "png": _image("png"),
    "jpeg": _image("jpg"),
    "tiff": _image("tiff"),
    "gif": _image("gif"),
    "pickle": _pickle(),
    "idx": _idx(),
    "state of a run": _scratch(),
}  # fmt: skip
