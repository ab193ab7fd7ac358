"""A search, and Optuna's own view of its study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from pipeline.search.search import Search
from pipeline.search.space import read_space
from tests.configuration import project


def search(words: Sequence[str], method: str = "naive", **given: Any) -> Search:
    return Search(project(), method, read_space(words), (101,), **given)


class opened_of:  # noqa: N801 - used as a function
    """Optuna's own view of the study of a search."""

    def __init__(self, folder: Path, record: str = "naive") -> None:
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/scratch/tune/rotated-digits/{record}/study.db")

    def __enter__(self) -> optuna.Study:
        return optuna.load_study(study_name="search", storage=self.storage)

    def __exit__(self, *given: object) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()
