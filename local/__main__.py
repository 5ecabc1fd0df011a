"""``python -m local [--once | --init]``: the product on one machine, for ``make run`` and ``init``."""

import argparse
import signal
import sys
import types
from typing import NoReturn

from rich.console import Console

from local.errors import LocalError
from local.run import Run, explain
from local.settings import load


def main() -> int:
    """Run; return 0 if all went well, else 1 after one plain sentence."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="sync once, check, print a summary, exit"
    )
    parser.add_argument("--init", action="store_true", help="ask for the settings and write them")
    given = parser.parse_args()
    once = given.once
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    run: Run | None = None
    try:
        run = Run(load(choosing=given.init), console)
        if given.init:
            return run.init()
        run.main(once=once)
    except KeyboardInterrupt:
        _say(console, "Interrupted.")
        # Staying up ends only this way, and so does the wait for accounts. Else a sync is lost.
        return 0 if run and (run.waiting or (run.synced and not once)) else 1
    except LocalError as error:
        return _failed(console, str(error), error.log or (run and run.settings.logs))
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence, not a traceback
        if run:
            run.note_traceback()
        return _failed(console, explain(error), run and run.settings.logs)
    return 0


def _interrupt(number: int, frame: types.FrameType | None) -> NoReturn:  # noqa: ARG001
    raise KeyboardInterrupt


def _failed(console: Console, reason: str, log: object) -> int:
    where = f" Log: {log}" if log else ""
    _say(console, f"Failed: {reason.rstrip('.')}.{where}")
    return 1


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
