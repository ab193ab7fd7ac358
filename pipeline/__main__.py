"""`python -m pipeline`: the command line, as `tag-pipeline`."""

from pipeline.commands.app import main

if __name__ == "__main__":
    main()
