"""Run a notebook and keep what it prints: `python docs/site/notebooks.py docs/notebooks/NAME.ipynb`.

Jupyter does the same; this needs nothing that the project does not install anyway.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> None:
    """Execute the code cells in order, in one namespace, and put what each prints into its outputs.

    Args:
        notebook: a notebook of format 4 as JSON gives it, changed in place. Cells of plain Python that print text.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        count += 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"cell {count}", "exec", dont_inherit=True), names)  # noqa: S102
        text = printed.getvalue().splitlines(keepends=True)
        cell["execution_count"] = count
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []


if __name__ == "__main__":
    path = Path(sys.argv[1])
    content = json.loads(path.read_text(encoding="utf-8"))
    run(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
