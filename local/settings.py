"""What a person may set for a local run: ports, the state folder, credentials.

Everything comes from the environment, then from a ``.env`` file next to the Makefile.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from dotenv import dotenv_values

from local.errors import LocalError

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED_SYNCS = REPOSITORY / "include" / "config" / "syncs.yaml"
SANDBOX_AUDIENCE = "a1b2c3d4e5"

NO_AUDIENCE = "not-chosen"
WEAKEST = "transactional"
"""In the settings while something is left to choose. No sync runs then."""

STATUSES = ("subscribed", "pending", "transactional")
CONSENT = """choose what new contacts agree to: set NEW_CONTACT_STATUS in .env to one of
  subscribed     every customer agreed to your newsletter; they are mailed from now on
  pending        Mailchimp asks each of them by e-mail; those who confirm are mailed
  transactional  they are in the audience and get no newsletter
An opt-out in Mailchimp stays, whatever you choose.
Or let `make init` ask: it lists your audiences, proposes a mapping and writes the settings file"""
LIVED_HOME = ".state/lived"
"""The state folder of ``make run LIVED=1``: the sample company keeps the one above it."""

OWN_SYNCS = "syncs.yaml"
"""The settings file that ``make init`` writes, next to ``.env``."""

AUDIENCE = "choose an audience: run `make init`, or set MAILCHIMP_AUDIENCE_ID and NEW_CONTACT_STATUS in .env"

# Any of these means real accounts. A refresh token and an API key connect them at the start;
# without, a person connects them on the console's Setup page.
INTUIT_APP = ("QUICKBOOKS_CLIENT_ID", "QUICKBOOKS_CLIENT_SECRET")
COMPANY = ("QUICKBOOKS_REALM_ID", "QUICKBOOKS_REFRESH_TOKEN")
API_KEY = "MAILCHIMP_API_KEY"
MAILCHIMP_APP = ("MAILCHIMP_CLIENT_ID", "MAILCHIMP_CLIENT_SECRET")
CREDENTIALS = (*INTUIT_APP, *COMPANY, API_KEY, *MAILCHIMP_APP)
INTUIT_TOKEN_URL = "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer"  # noqa: S105


@dataclass(frozen=True, kw_only=True)
class Ports:
    """TCP ports on loopback; each can be set by the variable of the same name."""

    airflow_port: int = 8080
    quickbooks_port: int = 9410
    mailchimp_port: int = 9420
    log_server_port: int = 8793
    triggerer_log_port: int = 8794


@dataclass(frozen=True, kw_only=True, repr=False)
class Credentials:
    """Both systems as the connections need them. Never printed: it holds secrets."""

    client_id: str
    client_secret: str
    realm_id: str
    refresh_token: str
    quickbooks_url: str
    token_url: str
    verifier_token: str
    mailchimp_key: str
    mailchimp_url: str
    mailchimp_client_id: str
    mailchimp_client_secret: str
    mailchimp_token_url: str
    webhook_secret: str
    signing_secret: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One local run.

    Attributes:
        home: The state folder: keys, databases, logs. Survives runs.
        sandbox: Whether the mock servers of both systems are started.
        sync: The sync that is run, by its name in the settings file.
        syncs_file: The active settings file.
        timeout: Seconds the first sync may take before the run fails.
        new_contact_status: What real accounts' new contacts agree to, with the shipped settings.
        lived: Whether the mock servers get a company that has lived for a month.
        rehearse: Whether the first sync only reads, and prints what it would do.
        approve: Whether the first sync's plan is approved, whatever it is.
        dags_folder: Where Airflow looks for DAGs.
        public_url: The https address of a receiver that a tunnel leads to; empty without one.
        sync_named: Whether ``SYNC`` names the sync.
        open_question: What a person has to choose before a sync can run; empty if nothing.
        forking: Whether Airflow's components are forks of one process, where the system allows it.
    """

    home: Path
    ports: Ports
    credentials: Credentials
    sandbox: bool
    sync: str
    syncs_file: Path
    audience: str | None
    timeout: float
    new_contact_status: str | None
    approve: bool
    rehearse: bool
    dags_folder: Path
    lived: bool = False
    public_url: str = ""
    sync_named: bool = False
    open_question: str = ""
    forking: bool = True

    @property
    def dag_id(self) -> str:
        """Return the DAG of the sync."""
        return f"sync_customers__{self.sync}"

    @property
    def logs(self) -> Path:
        """Return where every part writes its log."""
        return self.home / "logs"

    @property
    def ui(self) -> str:
        """Return the address of Airflow's pages."""
        return f"http://127.0.0.1:{self.ports.airflow_port}"


def load(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None, choosing: bool = False
) -> Settings:
    """Read the settings of a run; the environment wins over ``.env``, empty counts as not set.

    With ``choosing`` the settings file is yet to be written: audience and consent may be missing.

    Raises:
        LocalError: A setting is wrong or half given; names it and says what to change.
    """
    dotenv = dotenv or REPOSITORY / ".env"
    given = {name: value for name, value in dotenv_values(dotenv).items() if value}
    given |= {name: value for name, value in (environ or os.environ).items() if value}
    ports = _ports(given)
    real = _is_real(given)
    lived = given.get("LIVED", "0") != "0"
    if lived and real:
        raise LocalError("LIVED=1 is for the mock servers: run it without the credentials in .env")
    home = Path(given.get("ML_CONNECTOR_HOME") or (LIVED_HOME if lived else ".state"))
    syncs = given.get("ML_CONNECTOR_SYNCS")
    audience = given.get("MAILCHIMP_AUDIENCE_ID")
    status = given.get("NEW_CONTACT_STATUS")
    if status and status not in STATUSES:
        raise LocalError(f"NEW_CONTACT_STATUS is {status!r}; {CONSENT}")
    question = ""
    if real and not syncs:
        own = dotenv.resolve().parent / OWN_SYNCS
        _check_one_choice(own, audience)
        if choosing or own.is_file():
            syncs = str(own)
        else:
            question = AUDIENCE if not audience else "" if status else CONSENT
    # Without tokens there is something to do first, and a choice may need a look at the account.
    if question and COMPANY[1] in given and API_KEY in given:
        raise LocalError(question)
    if choosing and not real:
        raise LocalError("`make init` asks real accounts: copy .env.example to .env and fill it in")
    if syncs and not choosing and not (REPOSITORY / syncs).is_file():
        raise LocalError(f"ML_CONNECTOR_SYNCS names {syncs}, which is not a file")
    return Settings(
        home=(REPOSITORY / home).resolve(),
        ports=ports,
        credentials=_real(given) if real else sandbox_credentials(ports),
        sandbox=not real,
        sync=given.get("SYNC", "main"),
        syncs_file=(REPOSITORY / syncs).resolve() if syncs else SHIPPED_SYNCS,
        audience=(NO_AUDIENCE if question else audience) if real and not syncs else None,
        timeout=_seconds(given, "RUN_TIMEOUT", 600.0),
        new_contact_status=status or (WEAKEST if question else None),
        lived=lived,
        approve=not (real or lived) or given.get("APPROVE", "0") != "0",
        rehearse=given.get("REHEARSE", "0") != "0",
        dags_folder=Path(given.get("ML_CONNECTOR_DAGS_FOLDER", REPOSITORY / "dags")).resolve(),
        public_url=given.get("ML_CONNECTOR_PUBLIC_URL", ""),
        sync_named="SYNC" in given,
        open_question=question,
        forking=given.get("ML_CONNECTOR_FORK", "1") != "0",
    )


def _check_one_choice(own: Path, audience: str | None) -> None:
    """Refuse two choices: the settings file that ``make init`` wrote, and one in ``.env``."""
    if own.is_file() and audience:
        raise LocalError(
            f"{own} and MAILCHIMP_AUDIENCE_ID both choose an audience: take"
            " MAILCHIMP_AUDIENCE_ID and NEW_CONTACT_STATUS out of .env, or remove the file"
        )


def sandbox_credentials(ports: Ports) -> Credentials:
    """Return what the sandbox accepts. Nothing secret: it listens on loopback."""
    quickbooks = f"http://127.0.0.1:{ports.quickbooks_port}"
    return Credentials(
        client_id="sandbox-client",
        client_secret="sandbox-secret",  # noqa: S106
        realm_id="9341450000000001",
        refresh_token="sandbox-refresh-token",  # noqa: S106
        quickbooks_url=quickbooks,
        token_url=f"{quickbooks}/oauth2/v1/tokens/bearer",
        verifier_token="sandbox-verifier-token",  # noqa: S106
        mailchimp_key="sandbox-key-us99",
        mailchimp_url=f"http://127.0.0.1:{ports.mailchimp_port}/3.0",
        mailchimp_client_id="sandbox-client",
        mailchimp_client_secret="sandbox-secret",  # noqa: S106
        mailchimp_token_url=f"http://127.0.0.1:{ports.mailchimp_port}/oauth2/token",
        webhook_secret="sandbox-webhook-secret",  # noqa: S106
        signing_secret="",
    )


def syncs_for_audience(text: str, sync: str, audience: str, status: str) -> str:
    """Return the settings file's text for real accounts: their audience, and the consent given."""
    settings = yaml.safe_load(text)
    if sync not in settings["syncs"]:
        has = ", ".join(settings["syncs"])
        raise LocalError(f"no sync named {sync} in {SHIPPED_SYNCS}; it has: {has}")
    settings["syncs"][sync] |= {"audience_id": audience, "new_contact_status": status}
    return yaml.safe_dump(settings, sort_keys=False)


def _ports(given: Mapping[str, str]) -> Ports:
    chosen: dict[str, int] = {}
    for name, usual in vars(Ports()).items():
        variable = name.upper()
        text = given.get(variable, str(usual))
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise LocalError(f"{variable} is {text!r}, but must be a port number from 1 to 65535")
        if int(text) in chosen.values():
            other = next(key for key, port in chosen.items() if port == int(text)).upper()
            raise LocalError(f"{variable} and {other} are both {text}: give them different ports")
        chosen[name] = int(text)
    return Ports(**chosen)


def _is_real(given: Mapping[str, str]) -> bool:
    """Return whether real accounts are meant. Half of the credentials is a mistake."""
    present = [name for name in CREDENTIALS if name in given]
    missing = [name for name in INTUIT_APP if name not in given]
    if COMPANY[1] in given and COMPANY[0] not in given:
        missing.append(COMPANY[0])
    if API_KEY not in given:
        app = [name for name in MAILCHIMP_APP if name not in given]
        missing += app if len(app) == 1 else [f"{' and '.join(app)} (or {API_KEY})"] if app else []
    if present and missing:
        raise LocalError(
            f"{', '.join(present)} set, but {', '.join(missing)} missing: "
            "set them in .env, or none to use the sandbox"
        )
    return bool(present)


def _real(given: Mapping[str, str]) -> Credentials:
    def copied(name: str, usual: str = "") -> str:
        """Return a value without the blanks that copying it brings along."""
        return "".join(given.get(name, usual).split())

    return Credentials(
        client_id=copied("QUICKBOOKS_CLIENT_ID"),
        client_secret=copied("QUICKBOOKS_CLIENT_SECRET"),
        realm_id=copied("QUICKBOOKS_REALM_ID"),
        refresh_token=copied("QUICKBOOKS_REFRESH_TOKEN"),
        quickbooks_url=copied("QUICKBOOKS_BASE_URL"),
        token_url=copied("QUICKBOOKS_TOKEN_URL", INTUIT_TOKEN_URL),
        verifier_token=copied("QUICKBOOKS_WEBHOOK_VERIFIER_TOKEN"),
        mailchimp_key=copied(API_KEY),
        mailchimp_url=copied("MAILCHIMP_BASE_URL"),
        mailchimp_client_id=copied("MAILCHIMP_CLIENT_ID"),
        mailchimp_client_secret=copied("MAILCHIMP_CLIENT_SECRET"),
        mailchimp_token_url=copied("MAILCHIMP_TOKEN_URL"),
        webhook_secret=copied("MAILCHIMP_WEBHOOK_SECRET"),
        signing_secret=copied("MAILCHIMP_WEBHOOK_SIGNING_SECRET"),
    )


def _seconds(given: Mapping[str, str], name: str, usual: float) -> float:
    try:
        return float(given.get(name, usual))
    except ValueError:
        raise LocalError(f"{name} is {given[name]!r}, but must be a number of seconds") from None
