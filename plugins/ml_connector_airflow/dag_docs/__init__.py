"""Load the documentation of a DAG (``doc_md``) from the Markdown page next to this module."""

from pathlib import Path

FOLDER = Path(__file__).parent


def doc(name: str) -> str:
    """Return a DAG's page: what it does, its parameters, what to do when it fails."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")
