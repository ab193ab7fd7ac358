"""Rerun the published experiments, in pieces and on any number of machines:  tag-pipeline reproduce

`experiments` reads experiments.yaml. `workspace` runs what is missing, in a clone of the project below scratch/;
`finished` makes records of what has finished there.
`records` keeps every finished run under results/, with the hashes of its plan and data and the commit that made it.
`report` writes up an experiment beside the published numbers, `document` all of them in docs/reproductions.md.
"""
