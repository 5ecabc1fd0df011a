"""The bookkeeper's control calls, and the task that edits at random moments."""

import asyncio
from random import Random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import BadControlRequestError, read_json, reply
from sandbox.quickbooks.bookkeeper import ALSO_KNOWN, FIELDS, Bookkeeper
from sandbox.quickbooks.company import Company

FASTEST = 5000.0
MOST_TRIES = 20  # for each edit asked for, some come to nothing


class Work(msgspec.Struct, forbid_unknown_fields=True):
    """Whose customers and which fields: these ids, or the first ``count`` active, or all active."""

    customers: list[str | int] | None = None
    count: int | None = None
    edits_per_second: float = 50.0
    seed: int = 1
    fields: tuple[str, ...] = FIELDS

    def __post_init__(self) -> None:
        if not self.fields or not set(self.fields) <= {*FIELDS, *ALSO_KNOWN}:
            raise ValueError(f"fields are some of {', '.join((*FIELDS, *ALSO_KNOWN))}")
        if not 0 < self.edits_per_second <= FASTEST:
            raise ValueError(f"edits_per_second is above 0 and at most {FASTEST:.0f}")


class Edits(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /_sandbox/bookkeeper/edit``: so many edits now."""

    count: int = 1
    seed: int = 1
    customers: list[str | int] | None = None
    fields: tuple[str, ...] = FIELDS


class Desk:
    """Where the bookkeeper sits. Edits run in the server's event loop, one whole edit at a time."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._bookkeeper = Bookkeeper(company)
        self._task: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """Return the control routes."""
        return [
            Route("/_sandbox/bookkeeper", self._state, methods=["GET"]),
            Route("/_sandbox/bookkeeper/start", self._start, methods=["POST"]),
            Route("/_sandbox/bookkeeper/stop", self._stop, methods=["POST"]),
            Route("/_sandbox/bookkeeper/edit", self._edit, methods=["POST"]),
        ]

    def clear(self) -> None:
        """Stop the work and start a new ledger."""
        self._leave()
        self._bookkeeper = Bookkeeper(self._company)

    async def _state(self, _request: Request) -> Response:
        return reply({"running": self._is_running()} | self._bookkeeper.state())

    async def _start(self, request: Request) -> Response:
        work = msgspec.convert(await read_json(request), Work)
        if self._is_running():
            raise BadControlRequestError("the bookkeeper is at work; stop them first")
        customers = self._customers(work.customers, work.count)
        self._task = asyncio.create_task(self._work(work, customers))
        return reply({"running": True, "customers": len(customers)})

    async def _stop(self, _request: Request) -> Response:
        self._leave()
        return reply({"edits": self._bookkeeper.edits})

    async def _edit(self, request: Request) -> Response:
        order = msgspec.convert(await read_json(request), Edits)
        work = Work(customers=order.customers, seed=order.seed, fields=order.fields)
        customers, random = self._customers(work.customers, None), Random(work.seed)  # noqa: S311 - data, not secrets
        made = 0
        for _ in range(MOST_TRIES * order.count):
            if made < order.count:
                made += self._edit_one(work, customers, random)
        return reply({"edits": made})

    def _edit_one(self, work: Work, customers: list[str], random: Random) -> bool:
        return self._bookkeeper.edit(random.choice(customers), random.choice(work.fields), random)

    async def _work(self, work: Work, customers: list[str]) -> None:
        random, loop = Random(work.seed), asyncio.get_running_loop()  # noqa: S311 - data, not secrets
        due = loop.time()
        while True:
            due += random.expovariate(work.edits_per_second)
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._edit_one(work, customers, random)

    def _customers(self, ids: list[Any] | None, count: int | None) -> list[str]:
        rows = self._company.rows
        if ids is not None:
            customers = [str(each) for each in ids]
            unknown = [each for each in customers if not each.isdecimal() or int(each) not in rows]
            if unknown:
                raise BadControlRequestError(f"there is no customer {', '.join(unknown)}")
        else:
            active = sorted(row.id for row in rows.updated_between() if row.active)
            customers = [str(each) for each in active[:count]]
        if not customers:
            raise BadControlRequestError("there is no customer to edit")
        return customers

    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
