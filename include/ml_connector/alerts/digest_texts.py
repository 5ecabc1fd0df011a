"""Render a digest: plain text, HTML mail, Slack, Microsoft Teams, JSON."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import escape
from typing import Any

from ml_connector.alerts.digest import Digest, Figure, SyncDigest
from ml_connector.display import grouped, pattern_time


def digest_subject(digest: Digest) -> str:
    """Return the subject line."""
    sunday = digest.monday + timedelta(days=6)
    first, last = pattern_time(digest.monday, "d MMM"), pattern_time(sunday, "d MMM y")
    return f"ml-connector: week of {first} to {last}"


def plain_digest(digest: Digest) -> str:
    """Return the digest as plain text, a link below each figure that is not zero."""
    return "\n".join(_plain_lines(digest)).strip() + "\n"


def _plain_lines(digest: Digest) -> Iterator[str]:
    for sync in digest.syncs:
        yield from ("", sync.sync)
        for figure in sync.figures:
            yield f"  {figure.label}: {_counts(figure)}"
            if figure.names:
                yield f"    {_names(figure)}"
            if figure.now and sync.link:
                yield f"    {sync.link_of(figure)}"


def html_digest(digest: Digest) -> str:
    """Return the digest as an HTML mail: one column, readable on a phone."""
    title = escape(digest_subject(digest))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title></head>"
        '<body style="margin:0;padding:16px;font:16px/1.5 sans-serif">'
        f'<div style="max-width:600px;margin:0 auto"><h1 style="font-size:20px">{title}</h1>'
        f"{''.join(map(_html_sync, digest.syncs))}</div></body></html>"
    )


def _html_sync(sync: SyncDigest) -> str:
    heading = f'<h2 style="font-size:18px;margin:24px 0 8px">{escape(sync.sync)}</h2>'
    return (
        f'{heading}<table role="presentation" style="width:100%;border-collapse:collapse">'
        f"{''.join(_html_row(sync, figure) for figure in sync.figures)}</table>"
    )


def _html_row(sync: SyncDigest, figure: Figure) -> str:
    label = escape(figure.label)
    if figure.now and sync.link:
        label = f'<a href="{escape(sync.link_of(figure))}">{label}</a>'
    names = f"<br><small>{escape(_names(figure))}</small>" if figure.names else ""
    cell = "padding:8px 0;border-bottom:1px solid #ccc"
    return (
        f'<tr><td style="{cell}">{label}{names}</td>'
        f'<td style="{cell};text-align:right;white-space:nowrap"><b>{grouped(figure.now)}</b>'
        f"<br><small>{escape(_last_week(figure))}</small></td></tr>"
    )


def slack_digest(digest: Digest) -> str:
    """Return the digest in Slack's mark-up."""
    lines = [f"*{digest_subject(digest)}*"]
    for sync in digest.syncs:
        lines += ["", f"*{sync.sync}*"]
        for figure in sync.figures:
            label = figure.label
            if figure.now and sync.link:
                label = f"<{_for_slack(sync.link_of(figure))}|{label}>"
            lines.append(f"• {label}: {_counts(figure)}")
            lines += [f"    {_for_slack(_names(figure))}"] if figure.names else []
    return "\n".join(lines)


def _for_slack(text: str) -> str:
    """Escape the three characters that mean something to Slack.

    https://docs.slack.dev/messaging/formatting-message-text
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams_digest(digest: Digest) -> dict[str, Any]:
    """Return the digest as a Teams message."""
    blocks: list[dict[str, Any]] = []
    for sync in digest.syncs:
        facts = [{"title": each.label, "value": _counts(each)} for each in sync.figures]
        blocks += [_text(sync.sync, weight="Bolder"), {"type": "FactSet", "facts": facts}]
        blocks += [
            _text(f"{each.label}: {_for_teams(_names(each))}", isSubtle=True)
            for each in sync.figures
            if each.names
        ]
    links = {sync.sync: sync.link for sync in digest.syncs if sync.link}
    return teams_message(digest_subject(digest), blocks, links)


def _for_teams(text: str) -> str:
    """Escape a text: Adaptive Cards read a subset of Markdown."""
    return re.sub(r"([\\`*_\[\]()#])", r"\\\1", text)


def teams_text(title: str, text: str) -> dict[str, Any]:
    """Return a title and lines of text as a Teams message."""
    return teams_message(title, [_text(line) for line in text.splitlines()], {})


def teams_message(
    title: str, blocks: list[dict[str, Any]], links: dict[str, str]
) -> dict[str, Any]:
    """Return an Adaptive Card as a Teams webhook takes it.

    https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook
    """
    actions = [{"type": "Action.OpenUrl", "title": name, "url": url} for name, url in links.items()]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [_text(title, size="Large", weight="Bolder"), *blocks],
        **({"actions": actions[:6]} if actions else {}),  # Teams shows up to six
    }
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def json_digest(digest: Digest) -> dict[str, Any]:
    """Return the digest as the webhook's JSON."""
    return {
        "state": "digest",
        "kind": "digest",
        "week": digest.monday.isoformat(),
        "text": plain_digest(digest),
        "syncs": [
            {
                "sync": sync.sync,
                "link": sync.link,
                "figures": {
                    each.name: {"now": each.now, "before": each.before, "names": list(each.names)}
                    for each in sync.figures
                },
            }
            for sync in digest.syncs
        ],
    }


def _text(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, **style}


def _counts(figure: Figure) -> str:
    told = _last_week(figure)
    return f"{grouped(figure.now)} ({told})" if told else f"{grouped(figure.now)}"


def _last_week(figure: Figure) -> str:
    return "" if figure.before is None else f"last week {grouped(figure.before)}"


def _names(figure: Figure) -> str:
    more = figure.now - len(figure.names)
    return ", ".join(figure.names) + (f" and {grouped(more)} more" if more > 0 else "")
