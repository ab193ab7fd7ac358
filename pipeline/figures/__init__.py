"""The figures, each from the tables of plots/ alone; one figure a file. Nothing here imports torch."""

from pipeline.figures.draw import FIGURES, Tables, draw_all, read_tables

__all__ = ["FIGURES", "Tables", "draw_all", "read_tables"]
