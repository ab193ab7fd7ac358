"""Timings as ratios on the machine they run on; never part of the tests."""
