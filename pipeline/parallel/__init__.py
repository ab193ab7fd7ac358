"""The stages side by side: what DVC's graph allows to run at once does, on this machine or on a Dask cluster.

    python -m pipeline.parallel [TARGET ...] [-j N] [--scheduler ADDRESS] [--clone-from URL] [--gpu] [--dry] [--keep-going]

DVC says which stages are stale (`graph`); the scheduler hands them to Dask workers as soon as what they depend on is done
(`scheduler`); a worker (`worker`) gives each to a process that keeps DVC imported (`dvc_process`), in this folder or in a
clone of its own (`clones`). At the end a plain `dvc repro` verifies. docs/running.md tells how to use it.
"""
