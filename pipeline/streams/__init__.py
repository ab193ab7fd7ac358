"""Streams: turn raw images into a sequence of tasks (`recipes`), and write and read the tasks in data/tasks/."""
