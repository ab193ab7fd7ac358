"""Continual learning with TAG, Stable SGD and their baselines: the library behind the DVC stages.

Importing this package imports nothing heavy; each room below it imports only what it needs.
"""
