"""The curvature of the loss of each task of a run; `pipeline.spectra.eigenspectrum` computes it."""
