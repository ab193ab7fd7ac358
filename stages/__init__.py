"""One thin script a DVC stage: read its files, call the library, write its files. Run as `python -m stages.NAME`."""
