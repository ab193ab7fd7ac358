"""Training of one run: the loop over the tasks of a stream, the order of its batches, evaluation and resumption."""
