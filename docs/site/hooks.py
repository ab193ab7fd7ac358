"""What MkDocs does not do by itself: pages of files outside docs/, links to them, and notebooks.

The site needs no server and no other address, so it contains whatever its pages link to: a Markdown file outside docs/
becomes a page (README.md is the home page), an image is copied, any other file or folder becomes a page that shows it.
MkDocs calls the functions that begin with `on_`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = "docs/"
#: Pages in the menu that nothing in docs/ needs to link to.
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
#: Pages that would drown the others in every search.
UNSEARCHED = ("source/", "cases.md")
IMAGES = {".png", ".svg", ".jpg", ".gif"}
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".cff": "yaml",
    ".toml": "toml",
    ".json": "json",
}

FENCE = re.compile(r"^ *(```+|~~~+)")
#: The target of [text](target), ![text](target), [name]: target, and of src="target" and href="target".
LINK = re.compile(r"""(\]\(|^\[[^\]]+\]:\s+|\b(?:src|href)=")([^\s)">]+)""", re.MULTILINE)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to the lines of a Markdown text that are not in a fenced block."""
    lines, fence = [], ""
    for line in text.splitlines(keepends=True):
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
        lines.append(line if fence or mark else change(line))
    return "".join(lines)


def is_local(target: str) -> bool:
    """Whether a link is a path, neither an address nor an anchor of its own page."""
    return not re.match(r"[a-z][a-z+.-]*:|#|/", target)


def resolved(place: str, target: str) -> tuple[str, str]:
    """The path in the project that a link on the page of file `place` leads to, and its anchor with the #."""
    path, mark, anchor = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), path)), mark + anchor


def targets(place: str, text: str) -> Iterator[str]:
    """The paths in the project that a Markdown text links to."""
    found: list[str] = []
    outside_code(text, lambda line: found.extend(link[2] for link in LINK.finditer(line)) or line)
    for target in filter(is_local, found):
        yield resolved(place, target)[0]


def page_of(path: str) -> str:
    """Where the site keeps a file or folder of the project: a name below docs/, as MkDocs calls its sources."""
    if path.startswith(DOCS):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix(DOCS))
    if path == "README.md":
        return "index.md"
    if Path(path).suffix in IMAGES | {".md"}:
        return path
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def shown(path: str) -> str:
    """The page that shows a file, or lists the files of a folder."""
    head = f"# `{path}`\n\n"
    if (ROOT / path).is_dir():
        return head + "".join(f"- [`{Path(entry).name}`]({Path(entry).name}.md)\n" for entry in files_in(path))
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"{head}~~~~{LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n~~~~\n"


def files_in(folder: str) -> list[str]:
    """The files of a folder that a page can show."""
    return [f"{folder}/{path.name}" for path in sorted((ROOT / folder).iterdir()) if path.suffix in LANGUAGES]


def notebook(path: Path) -> str:
    """A notebook as Markdown: its texts, its code and what the code printed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            parts.append("```text\n" + "".join(output["text"]).rstrip() + "\n```")
    parts.append(f"[Download this notebook]({path.name})")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages for notebooks, and for everything outside docs/ that a page links to."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            content = notebook(Path(config.docs_dir, file.src_uri))
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=content))
    waiting = [f"{DOCS}{file.src_uri}" for file in files.documentation_pages() if file.generated_by is None]
    waiting += [path for path in ALWAYS if (ROOT / path).is_file()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        place = ROOT / path
        if not path.startswith(DOCS):
            files.append(generated(config, path))
        if place.is_dir():
            new = files_in(path)
        else:
            new = list(targets(path, place.read_text(encoding="utf-8"))) if path.endswith(".md") else []
        # What does not exist is left to MkDocs, which warns of it.
        new = [path for path in new if not path.startswith((DOCS, "..")) and (ROOT / path).exists()]
        waiting += sorted(set(new) - seen)
        seen |= set(new)
    return files


def generated(config: MkDocsConfig, path: str) -> File:
    """The page or copy of a file outside docs/."""
    name = page_of(path)
    if name.startswith("source/"):
        return File.generated(config, name, content=shown(path))
    return File.generated(config, name, abs_src_path=str(ROOT / path))


def place_of(page: str) -> str:
    """The file of the project whose text a page has."""
    if page == "index.md":
        return "README.md"
    inside = (ROOT / DOCS / page).exists() or page.startswith("notebooks/")
    return DOCS + page if inside else page


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to the pages of the files that they name."""
    uri = page.file.src_uri
    if uri.startswith(UNSEARCHED):
        page.meta["search"] = {"exclude": True}
    if uri.startswith("source/"):
        return markdown

    def link(found: re.Match[str]) -> str:
        if not is_local(found[2]):
            return found[0]
        path, anchor = resolved(place_of(uri), found[2])
        name = page_of(path)
        if files.get_file_from_path(name) is None or name == uri:  # the page of a notebook links to the notebook itself
            return found[0]
        if found[1].endswith('"'):  # an attribute of HTML, which MkDocs does not look at
            name = re.sub(r"\.md$", ".html", name)
        return f"{found[1]}{posixpath.relpath(name, posixpath.dirname(uri) or '.')}{anchor}"

    return outside_code(markdown, lambda line: LINK.sub(link, line))
