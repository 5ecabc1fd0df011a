"""Run both mock servers: ``python -m sandbox``, or ``ml-connector sandbox``."""

import typer

from sandbox.command import sandbox

if __name__ == "__main__":
    typer.run(sandbox)
