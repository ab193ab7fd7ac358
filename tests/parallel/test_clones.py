"""Several machines, as processes of one: a Dask scheduler, workers with clones of their own, a DVC remote between them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.clones import Clone, everything, fresh_clone, one_line
from tests.cluster import cluster


def test_workers_with_clones_of_their_own_and_a_remote_between_them(base: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path / "first")
    clone.run("dvc", "remote", "add", "-d", "shelf", str(tmp_path / "shelf"))
    clone.commit("remote")
    with cluster(tmp_path / "dask", 2) as dask:
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "repro",
            "--scheduler",
            dask.address,
            "--clone-from",
            ".",
        ]
        clone.edit("params.yaml", "dpi: 150", "dpi: 80")
        assert "params.yaml is not; commit it first" in one_line(clone.run(*command, status=2))
        clone.edit("params.yaml", "dpi: 80", "dpi: 150")
        draft = clone.folder / "pipeline/strategies/draft.py"
        draft.touch()
        assert "pipeline/strategies/draft.py is not; commit it first" in one_line(clone.run(*command, status=2))
        draft.unlink()
        text = clone.run(*command)
        assert "dvc repro finds nothing more to do" in text
        # Nothing was trained here: no logs, which are no outputs; and each of the two workers had something to do.
        assert not (clone.folder / "logs").exists()
        assert all(list((tmp_path / "dask" / f"worker-{number}").glob("clones/*/0/logs")) for number in range(2))
        assert clone.repro() == set()
        assert (clone.folder / "dvc.lock").read_bytes() == (base.folder / "dvc.lock").read_bytes()
        for method in ("naive", "stable-ewc"):
            assert everything(clone, method) == everything(base, method)
        # Again, with another parameter: the clones are used again, and only what it touches runs.
        clone.edit("params.yaml", "dpi: 150", "dpi: 80")
        clone.commit("coarser figures")
        assert "2 stages (2 ran)" in clone.run(*command)
        assert len(list((tmp_path / "dask").glob("worker-*/clones/*/*/.git"))) == 2
        # Outputs that are missing here and whose stages have not changed are fetched.
        for gone in ("models", "metrics/runs", ".dvc/cache"):
            shutil.rmtree(clone.folder / gone)
        assert "dvc repro finds nothing more to do" in clone.run(*command)
        for method in ("naive", "stable-ewc"):
            assert everything(clone, method) == everything(base, method)
        # What lies here alone goes to the remote when a worker needs it.
        clone.run("dvc", "remote", "modify", "shelf", "url", str(tmp_path / "another shelf"))
        for place in ("cache", "*/models"):
            for folder in (tmp_path / "dask").glob(f"worker-*/clones/*/{place}"):
                shutil.rmtree(folder)
        clone.edit("params.yaml", "  k: 3 ", "  k: 2 ")
        clone.commit("two eigenvalues")
        assert "eigenspectrum@naive-1: " in clone.run(*command)
        found = json.loads((clone.folder / "metrics/runs/naive/1.eigenspectrum.json").read_text(encoding="utf-8"))
        assert [len(task["eigenvalues"]) for task in found["tasks"]] == [2, 2]
