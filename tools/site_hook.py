"""Documentation site: pages from outside docs/, links into the repository, the notebook.

MkDocs calls these functions (``hooks`` in mkdocs.yml). Files of the repository link to each other
by relative paths. On the site, a link leads to the page of that file, if it has one. Otherwise
only its text is left, because the site does not know where the repository is published.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "fuzz/README.md": "fuzz.md",
    "soak/README.md": "soak.md",
    "docs/notebook.ipynb": "notebook.md",
}
"""Page of a file that is not a page of docs/ by itself."""
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)")
SHORT = re.compile(r"<code>([^<]{1,30})</code>")
ROLE = re.compile(r":(?:func|class|meth|attr|mod|exc):(?=<code>)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]

    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if page == "index.md":
            continue
        if source.endswith(".ipynb"):
            text = notebook_as_markdown(text)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links lead to pages of the site."""
    sources = {site: source for source, site in PAGES.items() if site != "index.md"}
    name = page.file.src_uri
    return with_site_links(markdown, sources.get(name, f"docs/{name}"))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Remove the Sphinx roles of docstrings, and mark code that must not wrap (site.css)."""
    return SHORT.sub(r'<code class="short">\1</code>', ROLE.sub("", html))


def with_site_links(markdown: str, source: str) -> str:
    """The text of a file of the repository, with links as the site needs them.

    Args:
        markdown: text of the file.
        source: path of the file in the repository.
    """

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in PAGES:
            return f"[{text}]({PAGES[path]}{anchor})"
        if path.startswith("docs/"):
            return f"[{text}]({path.removeprefix('docs/')}{anchor})"
        return f"`{text}`" if "/" in text else text

    return LINK.sub(replaced, markdown)


def notebook_as_markdown(notebook: str) -> str:
    """The cells of a notebook and their text outputs, as Markdown.

    Args:
        notebook: the JSON text of the file.
    """
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        printed = "\n".join(_text(output).rstrip() for output in cell["outputs"])
        if printed:
            parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"


def _text(output: dict[str, Any]) -> str:
    return "".join(output["text"] if "text" in output else output["data"]["text/plain"])
