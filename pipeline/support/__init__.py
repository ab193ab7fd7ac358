"""Utilities that every other package of the pipeline may use.

They cover errors, files, Git, randomness, compute devices, portable arithmetic and the saved state of unfinished runs.
"""
