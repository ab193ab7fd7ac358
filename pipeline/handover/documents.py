"""Read and write JSON files that are validated against a pydantic schema in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from pipeline.config.reading import one_line
from pipeline.config.types import Strict
from pipeline.support.errors import UserError
from pipeline.support.files import as_json, read_json, write_text

#: A quantity that cannot be negative: a residual, a distance, a loss, a time in seconds.
Size = Annotated[float, Field(ge=0)]
#: A count of at least 1, or the number of a task, from 1.
Number = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Document(Strict):
    """Base class of the schemas: a JSON object, which is a whole file or a part of one. An absent key is None."""

    def plain(self) -> dict[str, Any]:
        """The document as written to its file: keys whose value is None are left out; within lists, None is null."""
        return self.model_dump(exclude_none=True)


D = TypeVar("D", bound=Document)


def checked(model: type[D], value: Any, path: str | Path, fix: str) -> D:
    """Validate a value that was read from a file or is about to be written to one.

    Args:
        model: The schema.
        value: The value, as parsed from JSON.
        path: The file, for the error message.
        fix: What the user can do about a bad value; ends the error message.

    Raises:
        UserError: if the value does not match the schema.
    """
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be a JSON object, is a {type(value).__name__}; {fix}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(one_line(model, error, f"{path}:", fix)) from None


def read_document(model: type[D], path: str | Path, fix: str) -> D:
    """Read a JSON file and validate it.

    Args:
        model: The schema.
        path: The file.
        fix: What the user can do about a missing or bad file; ends the error message.

    Raises:
        UserError: if the file is missing, damaged or does not match the schema.
    """
    return checked(model, read_json(path, fix), path, fix)


def text_of(model: type[D], value: dict[str, Any], path: str | Path) -> str:
    """Validate a value and return the text of its JSON file.

    Args:
        model: The schema.
        value: The value.
        path: The file that the text is for, named in the error message; nothing is written.

    Raises:
        UserError: if the value does not match the schema, for example because a number is NaN or infinite.
    """
    return as_json(checked(model, value, path, "nothing was written").plain())


def write_document(model: type[D], value: dict[str, Any], path: str | Path) -> None:
    """Validate a value and write it as a JSON file, atomically.

    Raises:
        UserError: if the value does not match the schema; nothing is written then.
    """
    write_text(path, text_of(model, value, path))
