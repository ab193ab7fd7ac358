"""JSON files with a schema: what is written is checked, and what is read is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from pipeline.config.reading import one_line
from pipeline.config.types import Strict
from pipeline.support.errors import UserError
from pipeline.support.files import as_json, read_json, write_text

#: Of an error, a distance, seconds.
Size = Annotated[float, Field(ge=0)]
#: Of tasks, counted from 1.
Number = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Document(Strict):
    """The whole of a JSON file, or a part of it. A key that is not there is None."""

    def plain(self) -> dict[str, Any]:
        """As it stands in the file: no key for None, but in lists, where None is null."""
        return self.model_dump(exclude_none=True)


D = TypeVar("D", bound=Document)


def checked(model: type[D], value: Any, path: str | Path, fix: str) -> D:
    """The document of `value`, read from `path` or about to be written there. Raises UserError, ending with `fix`."""
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be an object of JSON, is a {type(value).__name__}; {fix}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(one_line(model, error, f"{path}:", fix)) from None


def read_document(model: type[D], path: str | Path, fix: str) -> D:
    """Read and check one file.

    Args:
        model: Its schema.
        path: The file.
        fix: What a person can do about a file that is missing or wrong; the end of the error's line.

    Raises:
        UserError: It is missing, damaged or not of this schema.
    """
    return checked(model, read_json(path, fix), path, fix)


def text_of(model: type[D], value: dict[str, Any], path: str | Path) -> str:
    """The text of the file for `value`, which must be of the schema.

    Raises:
        UserError: It is not, as where a number is NaN or infinite.
    """
    return as_json(checked(model, value, path, "nothing was written").plain())


def write_document(model: type[D], value: dict[str, Any], path: str | Path) -> None:
    """Check `value` and write it whole. Raises UserError where it is not of the schema."""
    write_text(path, text_of(model, value, path))
