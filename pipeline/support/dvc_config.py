"""Write the DVC configuration that is one folder's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.support.files import write_text


def write_dvc_config(folder: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Write `.dvc/config.local` of a folder.

    Args:
        folder: The project's folder.
        sections: Each section with its values, such as `{"cache": {"dir": "/mnt/cache"}}`.
    """
    from configobj import ConfigObj  # with which DVC reads the file: it knows what to quote, such as # and commas

    written = ConfigObj({section: dict(values) for section, values in sections.items()})
    write_text(folder / ".dvc" / "config.local", "\n".join(written.write()) + "\n")
