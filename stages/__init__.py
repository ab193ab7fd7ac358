"""The DVC stages, one thin script each: read files, call the library, write files. Run as `python -m stages.NAME`."""
