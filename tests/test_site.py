"""The documentation site: it builds without a warning, every link arrives, and no page is wider than its window."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.clones import made_once
from tests.paths import ROOT
from tests.waiting import LIMIT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1280, 400)
MKDOCS = all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings"))

pytestmark = pytest.mark.skipif(not MKDOCS, reason="no MkDocs here (the extra docs)")


class Page(HTMLParser):
    """What a page refers to, and the anchors it has.

    Attributes:
        links: targets of its links.
        loads: addresses of its images, scripts and style sheets.
        anchors: the ids of its elements.
        scripts: how many scripts stand in its text: a page about what was put in must show `<script>`, not run it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.scripts = 0
        self._in_text = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_text = self._in_text or tag == "article"
        self.scripts += self._in_text and tag == "script"
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and "href" in values and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(values["href"])
        if tag in ("img", "script", "iframe", "source") and "src" in values:
            self.loads.append(values["src"])

    def handle_endtag(self, tag: str) -> None:
        self._in_text = self._in_text and tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, in a folder of its own."""

    def build(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
            cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""

    return made_once(tmp_path_factory, "site", build)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site, but the one for addresses that a server does not know."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_link_image_and_anchor_is_there(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    checked = 0
    for path, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = not to.is_file() or not to.is_relative_to(site)
            if not lost and parts.fragment and to.suffix == ".html":
                lost = to in pages and unquote(parts.fragment) not in pages[to].anchors | {"__skip", ""}
            if lost:
                wrong.append(f"{path.relative_to(site)}: {target}")
    assert wrong == []
    assert checked > 1000


def test_nothing_is_asked_of_another_server(site: Path, pages: dict[Path, Page]) -> None:
    loaded = [f"{path.relative_to(site)}: {each}" for path, page in pages.items() for each in page.loads]
    assert [each for each in loaded if re.search(r": (https?:)?//", each)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", styles) == []


def test_no_text_becomes_a_script(pages: dict[Path, Page]) -> None:
    assert [path for path, page in pages.items() if page.scripts] == []


def test_what_docs_link_to_outside_docs_is_on_the_site(site: Path) -> None:
    assert (site / "CONTRIBUTING.html").is_file()
    assert (site / "results/stable-sgd-1-rotated/report.html").is_file()
    assert (site / "source/pipeline/optimizers/tag.py.html").is_file()


def test_the_reference_has_every_public_name(site: Path) -> None:
    import pipeline.curvature
    import pipeline.models
    import pipeline.optimizers
    import pipeline.strategies

    for package in (pipeline.curvature, pipeline.models, pipeline.optimizers, pipeline.strategies):
        name = package.__name__
        anchors = Page(site / "reference" / f"{name.removeprefix('pipeline.')}.html").anchors
        # What has a module of its own is known by the name of both.
        known = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith(f"{name}.")}
        missing = [each for each in package.__all__ if each not in known]
        assert missing == [], f"docs/reference does not have these names of {name}"


MEASURE = """<!doctype html><meta charset="utf-8"><body><pre id="result"></pre><script>
const pages = %s, widths = %s, wide = [], found = [];
function open_in_frame(page, width) {
  return new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
    frame.onload = () => { done(frame) };
    frame.src = page;
    document.body.appendChild(frame);
  });
}
const later = (test) => new Promise((done) => {
  const timer = setInterval(() => { const value = test(); if (value) { clearInterval(timer); done(value) } }, 50);
});
(async () => {
  for (const page of pages) {
    const frame = await open_in_frame(page, widths[0]);
    const root = frame.contentDocument.documentElement;
    for (const width of widths) {
      frame.style.width = `${width}px`;
      if (root.scrollWidth > width || !root.clientWidth) wide.push(`${page}: ${root.scrollWidth} pixels in ${width}`);
    }
    frame.remove();
  }
  const frame = await open_in_frame("index.html?q=eigenvalue", 1280);
  await later(() => frame.contentDocument.querySelector(".md-search-result__item"));
  for (const link of frame.contentDocument.querySelectorAll(".md-search-result__item a")) found.push(link.href);
  document.getElementById("result").textContent = JSON.stringify({ wide, found });
})();
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_no_page_is_wider_than_its_window_and_the_search_finds(
    site: Path, pages: dict[Path, Page], tmp_path: Path
) -> None:
    assert CHROMIUM
    copy = tmp_path / "site"  # the site belongs to all tests
    shutil.copytree(site, copy)
    names = [str(path.relative_to(site)) for path in pages if path.relative_to(site).parts[0] not in ("source",)]
    assert len(names) >= 25
    (copy / "measure.html").write_text(MEASURE % (json.dumps(names), json.dumps(WIDTHS)), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=100000",
            "--enable-logging=stderr", "--dump-dom", (copy / "measure.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    result = re.search(r'<pre id="result">(\{.*?\})</pre>', done.stdout)
    assert result, done.stderr
    assert json.loads(result[1])["wide"] == []
    assert len(json.loads(result[1])["found"]) >= 3
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
