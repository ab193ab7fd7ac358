"""Write the DVC configuration that is one folder's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.support.errors import UserError
from pipeline.support.files import write_text


def write_dvc_config(folder: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Write `.dvc/config.local` of a folder.

    Args:
        folder: The project's folder.
        sections: Each section with its values, such as `{"cache": {"dir": "/mnt/cache"}}`.

    Raises:
        UserError: if a value cannot be quoted.
    """
    # DVC reads the file with it: it knows what to quote, such as # and commas.
    from configobj import ConfigObj, ConfigObjError

    written = ConfigObj({section: dict(values) for section, values in sections.items()})
    try:
        lines = written.write()
    except ConfigObjError as error:
        raise UserError(
            f"{folder}: .dvc/config.local cannot hold this: {error}; choose simpler names of folders"
        ) from None
    write_text(folder / ".dvc" / "config.local", "\n".join(lines) + "\n")
