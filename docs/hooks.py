"""The site is the repository as it is read there: pages outside docs/, and files that pages link to, become part of it.

A page of docs/ is at the top of the site, any other file under its own path. Links are written for the repository;
here they are turned to where their targets lie in the site, and mkdocs is strict about the rest.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    """Add the pages that the menu names, and all that these and further pages link to."""
    known = {_source(file.src_uri) for file in files}
    pages = [path for path in known if path.endswith(".md")]
    pages += [source for entry in _entries(config.nav) if (source := _source(entry)) not in known]
    while pages:
        page = pages.pop()
        if page not in known:
            _add(files, page, config)
            known.add(page)
        for _, link in LINK.findall(FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
            target = _resolved(page, link)
            if target in known or not (ROOT / target).is_file():
                continue  # what is not there is left for mkdocs to say
            if target.endswith(".md"):
                pages.append(target)
            else:
                _add(files, target, config)
                known.add(target)
    return files


def on_page_markdown(markdown, page, **_):
    """Turn links of the repository to links of the site."""
    source = _source(page.file.src_uri)

    def turned(match):
        target = _resolved(source, match[2])
        return match[1] + posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri) or ".")

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(turned, part) for part in parts)


def _add(files, source, config):
    files.append(File.generated(config, _uri(source), abs_src_path=str(ROOT / source)))


def _resolved(page, link):
    """The file of the repository that a link of a page means; of a folder its README."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{target}/README.md" if (ROOT / target / "README.md").is_file() else target


def _source(uri):
    """Where a file of the site lies in the repository."""
    return f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else uri


def _uri(source):
    """Where a file of the repository lies in the site."""
    return source.removeprefix("docs/")


def _entries(menu):
    """The pages of a menu."""
    if isinstance(menu, str):
        return [menu]
    values = menu.values() if isinstance(menu, dict) else menu
    return [entry for value in values for entry in _entries(value)]
