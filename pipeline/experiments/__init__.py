"""The published experiments, rerun in pieces, on as many machines as there are:  python -m pipeline.experiments

`experiments` reads experiments.yaml; `workspace` runs what is missing, in a clone of the project below scratch/; `records`
keeps every finished run under results/, with the hash of its plan and data and the commit that made it; `report` compares
with the published numbers.
"""
