"""Everything one QuickBooks mock server holds, and what a reset puts back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.clock import Clock
from sandbox.memory import Remembered
from sandbox.quickbooks.attachables import Attachables
from sandbox.quickbooks.company import Company, OtherName
from sandbox.quickbooks.generate import iter_customers
from sandbox.quickbooks.sample import load_sample
from sandbox.quickbooks.settings import Settings
from sandbox.quickbooks.tokens import Tokens

REALM = "9341450000000001"


@dataclass(frozen=True)
class Choice(Remembered):
    """Which customers the company starts with: the sample ones, none, or ``customers`` made up."""

    sample: bool = False
    customers: int = 0
    seed: int = 1


@dataclass
class State:
    """The company, its attachments, its tokens and the switches.

    ``listeners`` are called when the company's customers have been replaced.
    """

    realm: str = REALM
    clock: Clock = field(default_factory=Clock)
    settings: Settings = field(default_factory=Settings)
    replays: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    start: Choice = field(default_factory=lambda: Choice(sample=True))
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.company = Company(self.clock)
        self.attachables = Attachables(self.company, self.clock)
        self.tokens = Tokens(self.clock, lambda: self.settings)
        self.fill(self.start)

    def fill(self, choice: Choice) -> None:
        """Replace the company's customers; attachments and remembered request ids go too."""
        if choice.sample:
            rows, others, next_id = load_sample()
            self.company.load(rows, others, next_id=next_id)
        else:
            self.company.load(
                iter_customers(choice.customers, seed=choice.seed, now=self.clock.now()),
                [OtherName(1, "Intuit Payroll Services", "Vendor")],
                next_id=choice.customers + 2,
            )
        self.attachables.clear()
        self.replays.clear()
        for listener in self.listeners:
            listener()

    def reset(self) -> None:
        """Go back to how the mock server started."""
        self.settings = Settings()
        self.tokens.reset()
        self.fill(self.start)

    def company_info(self) -> dict[str, Any]:
        """Return the CompanyInfo entity."""
        return {
            "CompanyName": "Sandbox Company_US_1",
            "LegalName": "Sandbox Company_US_1",
            "CompanyAddr": {
                "Id": "1",
                "Line1": "123 Sierra Way",
                "City": "San Pablo",
                "CountrySubDivisionCode": "CA",
                "PostalCode": "87999",
            },
            "CompanyStartDate": "2024-06-10",
            "FiscalYearStartMonth": "January",
            "Country": "US",
            "SupportedLanguages": "en",
            "domain": "QBO",
            "sparse": False,
            "Id": "1",
            "SyncToken": "4",
            "MetaData": {
                "CreateTime": "2024-06-10T05:14:23-07:00",
                "LastUpdatedTime": "2024-06-19T11:04:06-07:00",
            },
        }
