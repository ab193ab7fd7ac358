"""Analysis of finished runs: metrics, summary tables, confidence intervals and comparison with published numbers."""
