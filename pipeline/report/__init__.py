"""The report (report.html and report.md), the README's gallery, and the record of what was run last."""
