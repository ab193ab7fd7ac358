"""Where raw images come from (sources), how they become tasks (streams), and task arrays on disk (store)."""
