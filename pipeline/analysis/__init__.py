"""From single runs to tables: metrics, summary, intervals, published rows."""
