"""How a report is written: sections as Markdown beside its figures, or as one HTML file that contains them."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

#: Ends the captions of figures that are drawn by `pipeline.figures.style.line_with_band`.
BANDS = "Lines: means over the seeds; bands: one standard deviation; no band: a single seed."
#: Name of a figure -> its caption. The report shows figures in this order.
CAPTIONS = {
    "contact_sheet": "The first images of each task.",
    "average_accuracy": "Average accuracy of the tasks learnt so far. " + BANDS,
    "accuracy_and_forgetting": "Average accuracy and forgetting. Bars: means; dots: single runs.",
    "paired_differences": "Average accuracy and forgetting less those of the reference, paired by seed; in brackets "
    "the number of seeds. Diamonds: means with their 95 % intervals; dots below them: single seeds. Hollow: one seed, no "
    "interval.",
    "accuracy_of_tasks": "Accuracy of each task over the stream; of more than ten methods, variants are left to the accuracy "
    "matrices. " + BANDS,
    "accuracy_matrix": "Accuracy on each task (columns) after each task (rows), in percent, mean over the seeds. Row 0: the "
    "untrained network. White: not evaluated. Multi-task: after each share of its training.",
    "stable_plastic": "Accuracy of each task, the largest eigenvalues of each task's Hessian (or the matrix that stands for "
    "it) right after it was learnt, and the distance of the weights from those after task 1. A cross: not converged. "
    + BANDS,
    "eigenvalues": "Largest eigenvalue of each task's Hessian (or the matrix that stands for it) right after it was learnt. "
    "A cross: not converged in some run. " + BANDS,
    "forgetting_and_curvature": "Left: what task 1 has lost against λ₁ ‖Δw‖². Right: the share of the movement of the "
    "weights since task 1 that lies in its top eigenvectors; methods with the same weights share a line. " + BANDS,
    "predicted_forgetting": "What the loss of each task rose by until each later task was learnt, against the quadratic "
    "model of the loss (left) and the bound of the Stable SGD paper (right). A dot: two tasks of a run; the line: "
    "equality; in brackets the 95 % interval over runs.",
    "loss_along_line": "Loss of task 1 on the straight line from its own weights to those at the end of the stream, mean "
    "and one standard deviation over the seeds. Dashes: the quadratic model.",
    "eigenvalues_of_layers": "Largest eigenvalue, by magnitude, of the block of each layer, from input to output: mean and "
    "one standard deviation over tasks and seeds. A cross: not converged in some run.",
    "spectral_density": "Spectral density of each task's Hessian (or the matrix that stands for it) right after it was "
    "learnt.",
    "alpha_heat_map": "TAG's α(t, τ), mean over tensors, steps and seeds.",
    "alpha_over_stream": "TAG's α beside the accuracy of the earlier tasks (six of them, where there are more), over "
    "the stream. " + BANDS,
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        headings: One for each column; the first column holds names.
        rows: The cells, as many in each row as there are headings.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: Heading of the section.
        text: Paragraphs.
        table: A table below the text; None for none.
        figures: Names of the figures to show, which are keys of `CAPTIONS`.
    """

    title: str
    text: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[str] = ()


def markdown_table(table: Table) -> str:
    """Return a table in Markdown, without a newline at its end."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.headings, *table.rows)]
    head, *body = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows]
    return "\n".join([head, "|---" * len(table.headings) + "|", *body])


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the report in Markdown. It expects its figures as PNG files beside it."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *section.text]
        parts += [markdown_table(section.table)] if section.table else []
        for name in section.figures:
            parts += [f"![{CAPTIONS[name]}]({name}.png)", CAPTIONS[name]]
    return "\n\n".join(parts) + "\n"


def _escaped(value: object) -> object:
    """Escape as autoescape would, but write quotes as `html.escape` does: committed reports depend on those bytes."""
    return value if hasattr(value, "__html__") else Markup(html.escape(str(value)))  # noqa: S704 - it is escaped


_HTML = Environment(trim_blocks=True, undefined=StrictUndefined, autoescape=True, finalize=_escaped).from_string(
    """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
body { color: #222; background: #fff; line-height: 1.45; }
:root { color-scheme: light dark; }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: 0.35rem 0.7rem; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; white-space: normal; vertical-align: bottom; }
th[scope=row] { border-bottom: 1px solid #ddd; position: sticky; left: 0; background: #fff; white-space: nowrap; }
figure { margin: 1.5rem 0; overflow-x: auto; }
figure img { max-width: 100%; height: auto; background: #fff; }
figcaption { font-size: 0.9rem; color: #555; max-width: 50rem; }
@media (max-width: 45rem) { figure img { max-width: none; } }
@media (prefers-color-scheme: dark) {
body, th[scope=row] { color: #ddd; background: #1b1b1b; }
th, td, th[scope=row] { border-color: #444; }
figcaption { color: #aaa; }
}
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for text in section.text %}
<p>{{ text }}</p>
{% endfor %}
{% if section.table %}
<table><thead><tr>{% for cell in section.table.headings %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in section.table.rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}</tbody></table>
{% endif %}
{% for name in section.figures %}
<figure id="{{ name }}"><img alt="{{ name | replace('_', ' ') }}" aria-describedby="{{ name }}-caption"
{#- #} src="data:image/png;base64,{{ pngs[name] }}"
{#- #}><figcaption id="{{ name }}-caption">{{ captions[name] }}</figcaption></figure>
{% endfor %}
{% endfor %}
</body>
</html>
""",
)


def as_html(title: str, sections: Sequence[Section], figures: Path) -> str:
    """Return the report as the text of one HTML file that needs no other file.

    Args:
        title: Title of the report.
        sections: Its sections.
        figures: Folder with the PNG files of the figures, which are embedded.
    """
    drawn = [name for section in sections for name in section.figures]
    pngs = {name: base64.b64encode((figures / f"{name}.png").read_bytes()).decode("ascii") for name in drawn}
    return _HTML.render(title=title, sections=sections, captions=CAPTIONS, pngs=pngs) + "\n"
