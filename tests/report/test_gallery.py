"""The README's table and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report import gallery
from pipeline.support.errors import UserError
from pipeline.support.files import write_text


def test_the_readme_gets_the_summary_and_the_pictures_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("README.md", f"# Mine\n{gallery.BEGIN}\nold\n{gallery.END}\nrest\n")
    write_text(
        "metrics/summary.csv",
        "benchmark,method,seeds,average_accuracy,forgetting,learning_accuracy,largest_eigenvalue,average_accuracy_std\n"
        "digits,naive,2,0.612,0.105,0.7,12.34,0.021\ndigits,tag,1,0.8,,0.9,3,\n",
    )
    with pytest.raises(UserError, match="no pictures; run 'make repro' first"):
        gallery.renew()
    assert "old" in Path("README.md").read_text(encoding="utf-8")
    write_text("figures/average_accuracy.png", "picture")
    gallery.renew()
    head, _, table = Path("README.md").read_text(encoding="utf-8").partition(gallery.BEGIN)
    assert (head, table.partition(gallery.END)[2]) == ("# Mine\n", "\nrest\n")
    assert table.partition(gallery.END)[0].splitlines()[1:] == [
        "| method | average accuracy (%) | forgetting (points) | learning accuracy (%) | largest eigenvalue |",
        "|---|---|---|---|---|",
        "| `naive` | 61.2 ± 2.1 | 10.5 | 70.0 | 12.3 |",
        "| `tag` | 80.0 | – | 90.0 | 3.0 |",
    ]
    assert Path("docs/images/average_accuracy.png").read_text(encoding="utf-8") == "picture"
