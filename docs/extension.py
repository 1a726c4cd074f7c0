"""What the pages are made from: claims, figures and programs, read and never typed."""

import inspect
import json
import pathlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HERE = pathlib.Path(__file__).parent


class Written(SphinxDirective):
    """A directive whose content is Markdown that this file writes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the Markdown."""
        text = "\n".join(self.markdown())
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def markdown(self) -> Iterator[str]:
        """Its lines."""
        raise NotImplementedError


class Claims(Written):
    """The verdicts on some subjects, as the last recorded report has them."""

    optional_arguments = 20
    option_spec: ClassVar = {"only": directives.unchanged}

    def markdown(self) -> Iterator[str]:
        """One table: claim, measured, expected, verdict."""
        from truncated_weights.experiments.report import tables

        self.env.note_dependency(str(tables.RECORD))
        rows = json.loads(tables.RECORD.read_text(encoding="utf-8"))
        only = self.options.get("only", "").split()
        chosen = [row for row in rows if row["subject"] in self.arguments or row["name"] in only]
        known = {row["subject"] for row in rows} | {row["name"] for row in rows}
        if unknown := {*self.arguments, *only} - known:
            raise self.error(f"docs/claims.json has no {', '.join(sorted(unknown))}")
        yield from tables.long(chosen).splitlines()


class Figures(Written):
    """Figures of docs/gallery.toml with their captions and commands: all, or those named."""

    optional_arguments = 20

    def markdown(self) -> Iterator[str]:
        """One section or figure each."""
        entries = tomllib.loads((HERE / "gallery.toml").read_text(encoding="utf-8"))
        self.env.note_dependency(str(HERE / "gallery.toml"))
        for name in self.arguments or entries:
            one = entries[name]
            # From the root of the sources, so that pages of any folder may ask for one.
            yield f"![{one['title']}](/{name}.png)"
            yield ""
            yield f"*{one['caption'].strip()}*"
            yield ""
            yield f"```\n{one['command'].strip()}\n```"
            yield ""


class Programs(Written):
    """All programs, each with the question it answers."""

    def markdown(self) -> Iterator[str]:
        """One table."""
        from truncated_weights.experiments.run.program import programs

        yield "| `truncated-weights ...` | answers |"
        yield "|---|---|"
        for name, question in programs().items():
            yield f"| `{name}` | {question} |"


def restructured(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text: paragraphs, lists that begin with "- ", indented formulas."""
    text = inspect.cleandoc("\n".join(lines))
    if text.startswith("Alias for field number"):
        lines[:] = []
        return
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        rows = block.split("\n")
        if all(row.startswith("    ") or not row for row in rows):
            found += ["::", "", *("    " + row for row in rows), ""]
            continue
        for row in rows:
            deep = row.startswith("    ") and not _in_list(found)
            if deep and not (found and found[-1].startswith("    ")):
                found += ["", "::", ""]
            if not deep and found and found[-1].startswith("    "):
                found.append("")
            if row.startswith("- ") and found and found[-1] and not _in_list(found):
                found.append("")
            # Within a list a formula stays in its line: a deeper one would begin a quotation.
            listed = row.startswith("  ") and _in_list(found)
            row = "  " + row.strip() if listed else row
            found.append("    " + row if deep else _escaped(row))
        found.append("")
    lines[:] = found


def _in_list(lines: Sequence[str]) -> bool:
    for line in reversed(lines):
        if not line:
            return False
        if line.startswith("- "):
            return True
    return False


def _escaped(row: str) -> str:
    """Its signs stand for themselves; single backticks are code."""
    pieces = re.split(r"(`[^`]+`)", row)
    return "".join(
        f"`{piece}`" if piece.startswith("`") and piece.endswith("`") and len(piece) > 2
        else re.sub(r"([*|`\\])|(?<=\w)(_)(?!\w)", r"\\\1\2", piece)
        for piece in pieces
    )  # fmt: skip


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _levelled(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Captions of the contents are headings; a reader that hears the page asks for their level."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    for name, directive in (("claims", Claims), ("figures", Figures), ("programs", Programs)):
        app.add_directive(name, directive)
    app.connect("autodoc-process-docstring", restructured)
    app.connect("html-page-context", _levelled, priority=900)
    # MathML, which browsers draw by themselves: the other ways load a script from elsewhere.
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
