"""Build the documentation as a site: ``python -m local.site``, by which `make docs` does it.

Pages link to each other and to files of the checkout by relative paths. The site is built from a
copy of the pages and of the files they name, in the same folders, so every link works in both.
Warnings fail the build: a page or an anchor that does not exist, a file that another host serves.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / "docs"
PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("docs/**/*.md", "bench/*.md", "sandbox/README.md"),
)
_TARGET = re.compile(r"\]\(([^)#\s]+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FOREIGN = re.compile(r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"')


def site_pages() -> list[Path]:
    """Return every page of the site, as paths in the checkout."""
    return sorted({page for pattern in PAGES for page in REPOSITORY.glob(pattern)})


def stage_site(source: Path) -> None:
    """Copy the pages, and the files they link to, to the same places below ``source``."""
    for page in site_pages():
        for file in (page, *_linked_files(page)):
            copy = source / file.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)


def _linked_files(page: Path) -> Iterator[Path]:
    for target in _TARGET.findall(page.read_text(encoding="utf-8")):
        file = (page.parent / target).resolve()
        if file.is_file() and file.suffix != ".md":
            yield file


def foreign_assets(site: Path) -> list[str]:
    """Return what pages of the site would load from other hosts."""
    return sorted(
        {
            f"{page.relative_to(site)} loads {address}"
            for page in site.rglob("*.html")
            for address in _FOREIGN.findall(page.read_text(encoding="utf-8"))
        }
    )


def main() -> int:
    """Build the site, print where it is, and return 0; or 1 after what is wrong."""
    shutil.rmtree(BUILD, ignore_errors=True)
    stage_site(BUILD / "source")
    shutil.copy(REPOSITORY / "docs" / "mkdocs.yml", BUILD)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=BUILD,
        capture_output=True,
        text=True,
        check=False,
    )
    said = _COLOUR.sub("", done.stdout + done.stderr)
    wrong = said.partition("Traceback")[0] if done.returncode else ""
    wrong = wrong or "\n".join(foreign_assets(BUILD / "site"))
    print(wrong or f"{BUILD / 'site' / 'index.html'}: {len(site_pages())} pages")  # noqa: T201
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
