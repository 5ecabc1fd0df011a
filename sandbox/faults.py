"""Faults on demand: which calls go wrong, and how.

A rule is posted as JSON to ``/_sandbox/faults``::

    {"match": {"method": "POST", "path": "/customer$", "body": "Notes"},
     "nth": [2], "times": 1,
     "action": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}}

``match`` holds regular expressions (searched, not anchored); what is absent matches everything.
``nth`` fires on those matches (1 is the first), ``every`` on each n-th, neither means on all;
``times`` caps the number of firings.
"""

import re
from typing import Any

import msgspec


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Action(_Spec, frozen=True, tag_field="kind"):
    pass


class Status(_Action, frozen=True, tag="status"):
    """Respond with this status and body; the handler does not run."""

    status: int
    headers: dict[str, str] = {}
    body: Any = ""
    content_type: str = "application/json"


class Html(_Action, frozen=True, tag="html"):
    """Respond with an HTML page, as a load balancer does; the handler does not run."""

    status: int = 503
    headers: dict[str, str] = {}
    body: str = "<html><head><title>Service Unavailable</title></head><body>Sorry.</body></html>"


class Hang(_Action, frozen=True, tag="hang"):
    """Wait before the handler. A client that hung up meanwhile has had nothing applied."""

    seconds: float


class Delay(_Action, frozen=True, tag="delay"):
    """Run the handler at once and respond late: a timed-out write that was applied."""

    seconds: float


class Drop(_Action, frozen=True, tag="drop"):
    """Cut the TCP connection without a response, before or after the handler applied the call."""

    when: str = "before"

    def __post_init__(self) -> None:
        if self.when not in {"before", "after"}:
            raise ValueError("drop.when is 'before' or 'after'")


class Body(_Action, frozen=True, tag="body"):
    """Respond with 200 and another body, e.g. a SystemFault. ``apply`` runs the handler first."""

    body: Any
    content_type: str = "application/json"
    apply: bool = False


class Malformed(_Action, frozen=True, tag="malformed"):
    """Run the handler and send only the first half of its response, with a matching length."""


Action = Status | Html | Hang | Delay | Drop | Body | Malformed


class Match(_Spec, frozen=True):
    """Regular expressions on the method, the path, the query string (decoded) and the body."""

    method: str | None = None
    path: str | None = None
    query: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        for pattern in (self.method, self.path, self.query, self.body):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

    def fits(self, *, method: str, path: str, query: str, body: bytes) -> bool:
        """Say whether a call is one this rule is about."""
        return (
            (self.method is None or re.fullmatch(self.method, method, re.IGNORECASE) is not None)
            and (self.path is None or re.search(self.path, path) is not None)
            and (self.query is None or re.search(self.query, query) is not None)
            and (
                self.body is None
                or re.search(self.body, body.decode("utf-8", "replace")) is not None
            )
        )


class RuleSpec(_Spec, frozen=True):
    """A rule as posted."""

    action: Action
    match: Match = Match()
    nth: list[int] | None = None
    every: int | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError("every is 1 or more")


class Rule:
    """A rule at work: counts the calls it matched and the times it fired."""

    def __init__(self, spec: RuleSpec) -> None:
        self.spec = spec
        self.matched = 0
        self.fired = 0

    def is_due(self) -> bool:
        """Say whether the match just counted is one to fire on."""
        if self.spec.times is not None and self.fired >= self.spec.times:
            return False
        if self.spec.nth is not None:
            return self.matched in self.spec.nth
        return self.spec.every is None or self.matched % self.spec.every == 0

    def as_dict(self) -> dict[str, Any]:
        """Render the rule with its counters."""
        rule: dict[str, Any] = msgspec.to_builtins(self.spec)
        return rule | {"matched": self.matched, "fired": self.fired}


class Faults:
    """The active rules. The first rule that is due decides; every rule counts its matches."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, posted: object) -> list[Rule]:
        """Add one rule, or a list of rules, from parsed JSON.

        Raises:
            ValueError: a rule is not of the documented form; the message says where.
        """
        specs = msgspec.convert(posted if isinstance(posted, list) else [posted], list[RuleSpec])
        added = [Rule(spec) for spec in specs]
        self.rules.extend(added)
        return added

    def pick(self, *, method: str, path: str, query: str, body: bytes) -> Action | None:
        """Count a call against every rule and return what should happen to it, if anything."""
        chosen: Rule | None = None
        for rule in self.rules:
            if rule.spec.match.fits(method=method, path=path, query=query, body=body):
                rule.matched += 1
                if chosen is None and rule.is_due():
                    chosen = rule
        if chosen is None:
            return None
        chosen.fired += 1
        return chosen.spec.action

    def clear(self) -> None:
        """Drop every rule."""
        self.rules.clear()
