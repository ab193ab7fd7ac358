"""The page of plots and the report, in a browser without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import Clone
from tests.waiting import LIMIT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(page: Path) -> tuple[str, list[str]]:
    """The page's elements once its scripts have run, and what it told the console of errors."""
    assert CHROMIUM
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in told if "INFO:CONSOLE" not in line or "Error" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_page_of_plots_draws_every_plot_without_a_network(clone: Clone) -> None:
    clone.run("dvc", "plots", "show", "--quiet")
    elements, errors = browse(clone.folder / "dvc_plots" / "index.html")
    declared = re.findall(
        r"^  - (.+):$", (clone.folder / "dvc.yaml").read_text().partition("\nplots:\n")[2], re.MULTILINE
    )
    assert len(declared) >= 6
    assert elements.count("<canvas") == len(declared)
    assert errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_plots_of_two_revisions_are_told_apart(clone: Clone) -> None:
    for table in (clone.folder / "plots").glob("*.csv"):  # as another run would leave them
        table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    clone.run("dvc", "plots", "diff", "--quiet", "HEAD")
    page = clone.folder / "dvc_plots" / "index.html"
    elements, errors = browse(page)
    assert errors == []
    assert elements.count("<canvas") >= 6
    assert all(f'"rev": "{revision}"' in page.read_text() for revision in ("HEAD", "workspace"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_report_shows_its_table_and_figures_without_a_network(base: Clone) -> None:
    figures = base.folder / "figures"
    elements, errors = browse(figures / "report.html")
    assert errors == []
    assert elements.count("<img") == len(list(figures.glob("*.png"))) >= 8
    assert "<td>naive</td>" in elements
