"""report.html and report.md, the gallery, the record of a run."""
