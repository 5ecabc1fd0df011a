"""Drawings of docs/images as SVG: the architecture and the five state machines, from the data below.

`make reference` writes them. They load no script and no font, so a code host and the site show them.
A solid arrow is the connector's doing, a dashed one a person's or a vendor's.
"""

from dataclasses import dataclass
from math import hypot
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
CELL = (270, 120)
"""Pixels from the middle of a box to that of the next, across and down."""
BOX = (170, 46)
MARGIN = 24
LINE = 15
"""Pixels from one line of text to the next."""


@dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes. ``bend``: pixels that its middle is off the straight line."""

    start: str
    end: str
    text: str = ""
    bend: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Drawing:
    """Boxes with their columns and lines, arrows, and which boxes are final.

    ``|`` in a text begins a new line.
    """

    title: str
    boxes: dict[str, tuple[float, float]]
    arrows: tuple[Arrow, ...]
    final: frozenset[str] = frozenset()


_STYLE = """<style>
.paper { fill: #fff; }
.box { fill: #eef3fb; stroke: #4a6fa5; }
.final { fill: #e9f5ec; stroke: #4b8b5f; }
.arrow { fill: none; stroke: #555; stroke-width: 1.4; }
.dashed { stroke-dasharray: 5 4; }
text { font: 12px system-ui, sans-serif; fill: #222; text-anchor: middle; }
.name { font-weight: 600; font-size: 13px; }
.label { paint-order: stroke; stroke: #fff; stroke-width: 6px; stroke-linejoin: round; }
</style>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" \
orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#555"/></marker></defs>"""


def svg_of(drawing: Drawing) -> str:
    """Return the picture of a drawing."""
    columns, lines = zip(*drawing.boxes.values(), strict=True)
    room = max((abs(arrow.bend) for arrow in drawing.arrows), default=0) // 2
    width = round((max(columns) - min(columns)) * CELL[0] + BOX[0] + 2 * MARGIN)
    height = round((max(lines) - min(lines)) * CELL[1] + BOX[1] + 2 * (MARGIN + room))
    middles = {
        name: (
            (column - min(columns)) * CELL[0] + BOX[0] / 2 + MARGIN,
            (line - min(lines)) * CELL[1] + BOX[1] / 2 + MARGIN + room,
        )
        for name, (column, line) in drawing.boxes.items()
    }
    arrows, labels = zip(*(_arrow(each, middles) for each in drawing.arrows), strict=True)
    boxes = (_box(name, middles[name], name in drawing.final) for name in drawing.boxes)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
    )
    title = f"<title>{escape(drawing.title)}</title>"
    paper = f'<rect class="paper" width="{width}" height="{height}" rx="8"/>'
    return "\n".join([head, title, _STYLE, paper, *arrows, *boxes, *labels, "</svg>\n"])


def _box(name: str, middle: tuple[float, float], final: bool) -> str:
    x, y = middle
    kind = "final" if final else "box"
    rect = (
        f'<rect class="{kind}" x="{x - BOX[0] / 2:g}" y="{y - BOX[1] / 2:g}" '
        f'width="{BOX[0]}" height="{BOX[1]}" rx="8"/>'
    )
    return rect + _text(name, x, y, "name")


def _arrow(arrow: Arrow, middles: dict[str, tuple[float, float]]) -> tuple[str, str]:
    """Return the line of an arrow, and its label."""
    (x0, y0), (x1, y1) = middles[arrow.start], middles[arrow.end]
    length = hypot(x1 - x0, y1 - y0)
    across, down = -(y1 - y0) / length, (x1 - x0) / length
    bent = ((x0 + x1) / 2 + across * arrow.bend, (y0 + y1) / 2 + down * arrow.bend)
    start, end = _edge((x0, y0), bent), _edge((x1, y1), bent)
    kind = "arrow dashed" if arrow.dashed else "arrow"
    line = (
        f'<path class="{kind}" marker-end="url(#tip)" d="M{start[0]:.0f} {start[1]:.0f} '
        f'Q{bent[0]:.0f} {bent[1]:.0f} {end[0]:.0f} {end[1]:.0f}"/>'
    )
    middle = [(start[i] + 2 * bent[i] + end[i]) / 4 for i in (0, 1)]
    return line, _text(arrow.text, middle[0], middle[1], "label") if arrow.text else ""


def _edge(middle: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Return the point on a box's edge in the direction of another point."""
    dx, dy = towards[0] - middle[0], towards[1] - middle[1]
    scale = min(
        (BOX[0] / 2 + 3) / abs(dx) if dx else float("inf"),
        (BOX[1] / 2 + 3) / abs(dy) if dy else float("inf"),
    )
    return middle[0] + dx * scale, middle[1] + dy * scale


def _text(text: str, x: float, y: float, kind: str) -> str:
    lines = text.split("|")
    first = y + 4 - (len(lines) - 1) * LINE / 2
    spans = (
        f'<tspan x="{x:.0f}" y="{first + number * LINE:.0f}">{escape(line)}</tspan>'
        for number, line in enumerate(lines)
    )
    return f'<text class="{kind}">{"".join(spans)}</text>'


DRAWINGS = {
    "architecture": Drawing(
        "Architecture: what triggers work, the three steps, and where state lives",
        {
            "schedule|or token timer": (1, 0),
            "webhook|receiver, inbox": (2, 0),
            "person|console, replay, undo": (3, 0),
            "QuickBooks Online": (0, 0.3),
            "Mailchimp": (0, 1),
            "gather": (1, 1),
            "decide": (2, 1),
            "apply": (3, 1),
            "Mailchimp|audience": (4, 0.5),
            "QuickBooks Online|customer": (4, 1.5),
            "customers, contacts|member events": (1, 2),
            "plan: changes": (2, 2),
            "audit, sealed": (3, 2),
            "Airflow|connections, tokens": (0, 2),
        },
        (
            Arrow("schedule|or token timer", "gather"),
            Arrow("webhook|receiver, inbox", "gather"),
            Arrow("person|console, replay, undo", "gather"),
            Arrow("QuickBooks Online", "gather", "customers"),
            Arrow("Mailchimp", "gather", "members"),
            Arrow("gather", "decide"),
            Arrow("decide", "apply", "approval"),
            Arrow("apply", "Mailchimp|audience", "contacts"),
            Arrow("apply", "QuickBooks Online|customer", "activity"),
            Arrow("gather", "customers, contacts|member events", "stage"),
            Arrow("customers, contacts|member events", "decide", "compare"),
            Arrow("decide", "plan: changes", "store"),
            Arrow("plan: changes", "apply", "claim"),
            Arrow("apply", "audit, sealed", "outcome, same|transaction"),
            Arrow("Airflow|connections, tokens", "gather", "keys"),
        ),
        frozenset(("customers, contacts|member events", "plan: changes", "audit, sealed")),
    ),
    "states-plan": Drawing(
        "States of a plan",
        {
            "open": (0, 0),
            "waiting": (1, 0),
            "approved": (2, 0),
            "finished": (3, 0),
            "rejected": (1, 1),
            "outdated": (2, 1),
            "failed": (3, 1),
        },
        (
            Arrow("open", "waiting", "first or large"),
            Arrow("open", "finished", "within the guard: written", -150),
            Arrow("waiting", "approved", "approve", dashed=True),
            Arrow("waiting", "rejected", "reject, or|20 hours", dashed=True),
            Arrow("waiting", "outdated", "approve, but|data changed", dashed=True),
            Arrow("approved", "finished", "written"),
            Arrow("approved", "failed", "a step failed"),
            Arrow("failed", "finished", "retry"),
        ),
        frozenset(("finished", "rejected", "outdated")),
    ),
    "states-change": Drawing(
        "States of a change",
        {
            "pending": (0, 1),
            "applied": (1.4, 0),
            "parked": (1.4, 1),
            "failed": (1.4, 2),
            "superseded": (0, 2),
            "left": (0, 0),
        },
        (
            Arrow("pending", "applied", "written"),
            Arrow("pending", "parked", "refused for now:|1 hour, 1, 3, 7 days"),
            Arrow("pending", "failed", "refused permanently"),
            Arrow("pending", "superseded", "data changed,|or plan rejected"),
            Arrow("pending", "left", "an undo leaves|the contact"),
        ),
        frozenset(("applied", "parked", "failed", "superseded", "left")),
    ),
    "states-event": Drawing(
        "States of a webhook event",
        {
            "pending": (0, 1),
            "leased": (1.2, 1),
            "done": (2.4, 0),
            "ignored": (2.4, 1),
            "quarantined": (2.4, 2),
            "dead": (1.2, 0),
        },
        (
            Arrow("pending", "leased", "claim", -40),
            Arrow("leased", "pending", "retry, or|lease ended", -40),
            Arrow("leased", "done", "processed"),
            Arrow("leased", "ignored", "not ours"),
            Arrow("leased", "quarantined", "cannot be used"),
            Arrow("leased", "dead", "fifth failure"),
            Arrow("dead", "pending", "try again", dashed=True),
            Arrow("quarantined", "pending", "try again", -170, dashed=True),
        ),
        frozenset(("done", "ignored", "quarantined", "dead")),
    ),
    "states-token": Drawing(
        "States of a QuickBooks connection",
        {
            "fresh": (0, 0),
            "redeeming": (1.3, 0),
            "outcome unknown": (1.3, 1),
            "refused": (2.6, 0),
        },
        (
            Arrow("fresh", "redeeming", "5 minutes left: lock the|row, commit the intent", -40),
            Arrow("redeeming", "fresh", "new pair stored", -40),
            Arrow("redeeming", "outcome unknown", "process died", -70, dashed=True),
            Arrow("outcome unknown", "redeeming", "next caller; also tries|the former token", -70),
            Arrow("redeeming", "refused", "invalid_grant", dashed=True),
            Arrow("refused", "fresh", "connect again", 180, dashed=True),
        ),
    ),
    "states-contact": Drawing(
        "Statuses of a contact",
        {
            "absent": (0, 1),
            "pending": (1.2, 0),
            "subscribed": (1.2, 1),
            "transactional": (1.2, 2),
            "unsubscribed": (2.7, -0.5),
            "archived": (2.7, 0.3),
            "cleaned": (2.7, 1.1),
            "moved": (2.7, 1.8),
            "forgotten": (2.7, 2.5),
        },
        (
            Arrow("absent", "pending", "create"),
            Arrow("absent", "subscribed", "create"),
            Arrow("absent", "transactional", "create"),
            Arrow("pending", "subscribed", "confirms", dashed=True),
            Arrow("subscribed", "unsubscribed", "opts out", -30, dashed=True),
            Arrow("subscribed", "archived", "customer left", -15),
            Arrow("archived", "subscribed", "restore", -15),
            Arrow("subscribed", "cleaned", "bounces", dashed=True),
            Arrow("subscribed", "moved", "takes another address", dashed=True),
            Arrow("subscribed", "forgotten", "deleted", 30, dashed=True),
        ),
    ),
}


def write_drawings() -> None:
    """Write every drawing."""
    for name, drawing in DRAWINGS.items():
        (IMAGES / f"{name}.svg").write_text(svg_of(drawing), encoding="utf-8")
