"""Values searched on validation data: grids, and the best of a search."""
