"""The curvature of each task of a run."""
