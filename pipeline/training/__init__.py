"""The loop over the tasks of a stream, what feeds it, and evaluation."""
