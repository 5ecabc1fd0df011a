"""Processor time of programs that run next to what is measured."""

from contextlib import suppress

import psutil


def seconds_of(pid: int) -> float:
    """Processor seconds of a process and its children; those that ended are in their parent's."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        for process in (head, *head.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total
