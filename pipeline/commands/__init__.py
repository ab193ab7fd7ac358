"""The command line of the project, `tag-pipeline`: `app` declares it, `values` checks and completes what is given to it.

What a command does is in the room that it belongs to. It is imported when the command runs, so that `--help` and the
completion of a word in a shell take no time.
"""
