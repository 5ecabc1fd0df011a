"""What the connector does in a sequence, and what must hold when both sides are at rest."""

from collections.abc import Sequence

from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import AuditRow, Selection
from ml_connector.replay import replay
from sandbox.quickbooks.webhook_format import render
from tests.integration.company import REALM
from tests.integration.consent_acts import Acts
from tests.integration.consent_boundaries import Disturbance
from tests.integration.consent_model import level
from tests.integration.consent_world import Book, Letter
from tests.integration.test_forget import erase
from tests.integration.traces import dumped, forms, found


class Operations(Acts):
    """Runs, webhooks, replays and erasures, each one operation of the connector."""

    def _daily_run(self, planned: Sequence[Disturbance], *, full: bool = False) -> None:
        name = "full run" if full else "daily run"
        with self._operation(name, planned, if_calm=self._agrees_with_the_model):
            self.company.sync(full_sync=full, before_write_back=self._stop_reading)

    def _agrees_with_the_model(self) -> None:
        self._nobody_is_mailed_more_than_allowed()
        self.model.settle(self.servers.statuses())

    def _settle(self) -> None:
        """Run once, unless nothing happened since the last calm run."""
        if not self.settled:
            self._daily_run([])

    def _stop_reading(self) -> None:
        """From here on customers are read to write to them, unless they are read again by id."""
        self.sight.reading = False

    def _nobody_is_mailed_more_than_allowed(self) -> None:
        for email, status in self.servers.statuses().items():
            allowed = self.model.allowed(email)
            assert level(status) <= allowed, f"{email} is {status}, allowed is {allowed}"

    # ── webhooks ──────────────────────────────────────────────────────────────────────────────

    def _deliver(self, letters: Sequence[Letter], how: str, times: int = 1) -> None:
        """Bring letters to the inbox; ``how`` spells the events of QuickBooks."""
        for _ in range(times):
            notices = [each.notice for each in letters if each.notice is not None]
            grouped = how.startswith("grouped")
            for some in [notices] if grouped else [[each] for each in notices]:
                if some:
                    kind = "legacy" if "legacy" in how else "cloudevents"
                    body = render(some, kind=kind, realm=REALM)
                    if how.endswith("deletedID"):
                        body = body.replace(b'"deletedId"', b'"deletedID"')
                    if how.endswith("nameless"):
                        body = body.replace(b'"deletedId"', b'"other"')
                    self.company.deliver_from_quickbooks(body)
            for each in letters:
                if each.change is not None:
                    self.company.deliver_from_mailchimp(each.change[0])
        self.inbox += letters

    def _process_inbox_inside(self) -> None:
        letters, self.mail = self.mail, []
        self._deliver(letters, "one by one")
        self._prepare_inbox()
        self.company.work_off()

    def _prepare_inbox(self) -> None:
        self.company.make_due()
        for each in self.inbox:
            if each.notice is not None and each.notice.deleted_id in self.books:
                self._is_read(each.notice.deleted_id)

    def _process_inbox(self, planned: Sequence[Disturbance]) -> None:
        self._prepare_inbox()
        with self._operation("inbox", planned):
            self.company.work_off()
        if not self.calm:
            return
        for each in self.inbox:
            if each.change is None:
                continue
            _, kind, email, action = each.change
            if kind == "unsubscribe" and action == "unsub" and email in self.hidden:
                self.fired["hidden opt-out told by its webhook"] += 1
                self.model.person_sets(email, self.hidden.pop(email))
        self.inbox = []

    # ── replays and erasures ──────────────────────────────────────────────────────────────────

    def _replay(self, number: int, failed: bool, planned: Sequence[Disturbance]) -> None:
        failed, rows = self._chosen_rows(number, failed=failed)
        with self._operation("replay of failed rows" if failed else "replay of rows", planned):
            replay(self.company.open_sync(), rows)

    def _chosen_rows(self, number: int, *, failed: bool) -> tuple[bool, list[AuditRow]]:
        """Return one row of the audit, or all that failed; if none did, the last three."""
        with self._begin() as connection:
            ids = connection.execute(
                text("SELECT id FROM ml_connector.audit ORDER BY id")
            ).scalars()
            every = list(ids)
            chosen = (
                Selection(failed=True) if failed else Selection(ids=[every[number % len(every)]])
            )
            rows = trail.select(connection, chosen)
            if rows:
                return failed, rows
            return False, trail.select(connection, Selection(ids=every[-3:]))

    def _known_addresses(self) -> list[str]:
        customers = self.model.customers.values()
        return [each.email for each in customers if each.email and not each.gone]

    def _begin_erasure(self, number: int, delete: bool, planned: Sequence[Disturbance]) -> None:
        known = self._known_addresses()
        email = known[number % len(known)]
        for each, customer in self.model.customers.items():
            if email == customer.email:
                self.erased.add(each)
        self.model.forgets(email)
        self.erasing = (email, delete)
        self._erase(planned)

    def _erase(self, planned: Sequence[Disturbance]) -> None:
        assert self.erasing is not None
        email, delete = self.erasing
        with self._operation("erasure", planned):
            self.sight.reading = False
            erase(self.company, email, delete=delete)

    # ── both sides at rest ────────────────────────────────────────────────────────────────────

    def _quiet_days(self) -> None:
        """After two quiet days nothing is written, both sides agree, the erased are nowhere."""
        if self.traceless:  # only a full run sees that a customer is listed no longer
            self._daily_run([], full=True)
        self._settle()
        self._daily_run([])
        assert self.calm
        assert self.servers.writes() == [], "a second quiet day wrote"
        self._both_sides_agree()
        if self.erased:
            self._the_erased_are_nowhere()

    def _both_sides_agree(self) -> None:
        living: dict[str, list[Book]] = {}
        for each in sorted(self.books, key=int):
            book = self.books[each]
            if book.email and book.active and not book.gone and each not in self.erased:
                living.setdefault(book.email, []).append(book)
        for email, books in living.items():
            self._is_shown(email, books[0])
        for email, status in self.servers.statuses().items():
            if email not in living and status in ("subscribed", "transactional", "unsubscribed"):
                assert self._may_stay(email), f"{email} is {status} and belongs to no customer"

    def _is_shown(self, email: str, owner: Book) -> None:
        """The address of a customer is a contact that shows the customer, unless the model bars it."""
        held = self.servers.held(email)
        if self.model.may_be_absent(email):
            return
        assert held is not None, f"{email} is missing"
        assert held.status != "archived", f"{email} is archived"
        if "FNAME" not in self.edited.get(email, set()):
            shown = dict(held.fields).get("FNAME")
            assert shown == owner.name, f"{email} shows {shown}, not {owner.name}"

    def _may_stay(self, email: str) -> bool:
        """Whether a contact without a customer may stay in the audience."""
        keeping = self.company.settings["on_inactive"] != "archive"
        kept = keeping and any(b.email == email and not b.gone for b in self.books.values())
        waiting = any(
            email in each.places and each.email != email for each in self.model.customers.values()
        )
        not_ours = email not in self.touched or email in self.signed_up
        return kept or waiting or not_ours or email in self.model.suppressed

    def _the_erased_are_nowhere(self) -> None:
        """A contact that others live at as well may still show the name of a former owner."""
        shared = set().union(*(ids for ids in self.lived.values() if len(ids) > 1))
        names = {self.books[each].name for each in self.erased - shared}
        if names:
            self.fired["erased people looked for"] += 1
            needles = {form for name in names for form in forms(name)}
            left = found(dumped(self.company), needles)
            assert left == [], f"what is left of erased people: {left}"
