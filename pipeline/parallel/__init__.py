"""Run DVC stages in parallel, as far as their dependencies allow, on this machine or on a Dask cluster.

    tag-pipeline repro [STAGE ...] [-j N] [--scheduler ADDRESS] [--clone-from URL] [--gpu] [--dry] [--keep-going]

DVC says which stages are stale (`graph`). The scheduler submits each of them to a Dask worker as soon as the stages
that it depends on are done (`scheduler`). The worker (`worker`) passes it to a process that keeps DVC imported
(`dvc_process`), in this folder or in a clone of its own (`clones`). At the end, a plain `dvc repro` verifies that
nothing is left to do. docs/running.md explains how to use it.
"""
