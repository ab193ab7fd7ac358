"""The figures, one module each, drawn from the tables of plots/. Nothing here imports torch.

Three need something else: the contact sheet is drawn from the first images of each task, cost needs the seconds of each
run, which are in logs/, and published_rows our results beside the published ones.
"""

from pipeline.figures.draw import FIGURES, Tables, draw_all, read_tables

__all__ = ["FIGURES", "Tables", "draw_all", "read_tables"]
