"""The block in Notes: people's own text stays byte for byte, ours is one block that fits (B5, B6)."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.console import words
from ml_connector.model import Engagement, MemberEvent, Status
from ml_connector.rules.notes_block import (
    LONGEST,
    MAX_EVENTS,
    ContactSummary,
    Markers,
    length,
    render_lines,
)

OURS = Markers("main", "a1b2c3")
THEIRS = Markers("main", "d4e5f6")
OTHER_SYNC = Markers("shop", "a1b2c3")
ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINES = ["Unsubscribed from the newsletter since 2026-03-01.", "2026-03-01 unsubscribed"]
BLOCK = OURS.block(LINES)
OTHERS = THEIRS.block(LINES)

OWN_TEXTS = {
    "nothing": "",
    "CR LF": "Likes parrots.\r\nCall after 5.\r\n",
    "only CR": "one\rtwo\r",
    "tabs and blanks at the end": "\tCall \t\n  \t",
    "emoji": "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "blank lines": "\n\n\n",
    "a first marker alone": f"{OURS.first}\nhalf a block",
    "a first marker alone, at the end": f"text\n{OURS.first}",
    "a last marker alone": f"half a block\n{OURS.last}",
    "markers the wrong way round": f"{OURS.last}\ntext\n{OURS.first}\n",
    "a marker with a letter changed": f"{OURS.first.replace('M', 'm')}\nx\n{OURS.last}",
    "a marker without its code": "--- Mailchimp main, kept up to date by the sync ---\nx\n---",
    "a block of another customer": f"{OTHERS}\nbelow",
    "a block of another sync": f"above\n{OTHER_SYNC.block(LINES)}",
    "characters that patterns know": "(.*)+ [a-z] $1 \\1 \\n ^",
    "line ends that are none to QuickBooks": "a\u2028b\u2029c\x85d\x0be\x0cf",
}


def put_in(notes: str, lines: list[str] | None = None) -> str:
    held = OURS.into(notes, LINES if lines is None else lines)
    assert held is not None
    return held


@pytest.mark.parametrize("own", OWN_TEXTS.values(), ids=OWN_TEXTS)
def test_own_text_stays_in_front_of_the_block_byte_for_byte(own):
    held = put_in(own)
    assert held in (own + BLOCK, f"{own}\n{BLOCK}")
    assert OURS.out_of(held) in (own, own + "\n")
    assert put_in(held) == held
    assert put_in(held, ["Other."]) == held.replace(BLOCK, OURS.block(["Other."]))


@pytest.mark.parametrize("above", ["", "above\n", "above\r\n\t\n"])
@pytest.mark.parametrize("below", ["", "\nbelow", "\r\nbelow\r\n", " \t\r\nbelow", "\n\n"])
def test_own_text_stays_on_both_sides_of_the_block(above, below):
    held = put_in(above + OURS.block(["Old."]) + below)
    assert held == above + BLOCK + below
    assert OURS.out_of(held) == above + below


@pytest.mark.parametrize(
    "edited",
    [
        BLOCK.replace("\n", "\r\n"),
        BLOCK.replace("unsubscribed", "loves us"),
        BLOCK.replace("\n", " \t\n"),
        BLOCK.replace("\n", "\n\n"),
        OURS.first + "\n" + OURS.last,
        BLOCK.replace(OURS.last, f"{OTHERS}\n{OURS.last}"),
        BLOCK.replace(OURS.first, f"{OURS.first} ask her!"),
        BLOCK.replace(f"\n{OURS.last}", OURS.last),
        BLOCK.replace("\n", ""),
    ],
)
def test_a_block_somebody_edited_is_rendered_afresh(edited):
    assert put_in(f"above\n{edited}\nbelow") == f"above\n{BLOCK}\nbelow"


@pytest.mark.parametrize("above", ["above", "above ", "above\r", ""])
@pytest.mark.parametrize("below", ["below", " below\n", "\rbelow", ""])
def test_a_block_whose_line_ends_somebody_deleted_is_a_block_still(above, below):
    held = put_in(above + OURS.block(["Old."]) + below)
    between = ("\n" if above else "", "\n" if below else "")
    assert held == f"{above}{between[0]}{BLOCK}{between[1]}{below}"
    assert OURS.out_of(held) == OURS.out_of(above + BLOCK + below)


def test_a_half_block_above_is_own_text_and_the_whole_one_is_replaced():
    mock_app = f"{OURS.first}\nthe end was deleted\n"
    assert put_in(mock_app + OURS.block(["Old."])) == mock_app + BLOCK


def test_of_two_blocks_the_first_is_ours_and_a_copy_made_by_hand_stays():
    copied = OURS.block(["Old."])
    assert put_in(f"{copied}\n{copied}") == f"{BLOCK}\n{copied}"


def test_notes_of_exactly_2000_characters_have_no_room_and_neither_have_longer_ones():
    for own in ("y" * LONGEST, "y" * 4000, "\U0001f600" * 1000, "y" * (LONGEST - 1)):
        assert OURS.into(own, LINES) is None


def test_a_block_may_fill_the_2000_to_the_last():
    one = OURS.block(LINES[:1])
    own = "y" * (LONGEST - length(one) - 1)
    assert OURS.into(own, LINES) == f"{own}\n{one}"
    assert OURS.into(own + "y", LINES) is None


def test_an_emoji_counts_two():
    one = OURS.block(LINES[:1])
    mock_app, odd = divmod(LONGEST - length(one) - 1, 2)
    own = "\U0001f600" * mock_app + "y" * odd
    assert length(put_in(own)) == LONGEST
    assert OURS.into(own + "y", LINES) is None


def test_where_it_is_tight_the_oldest_lines_go_first():
    lines = ["Status."] + [f"2026-03-{day:02} event {'x' * 80}" for day in range(20, 0, -1)]
    for room in range(100, 1400, 37):
        held = OURS.into("y" * (LONGEST - 1 - room), lines)
        if held is not None:
            shown = held.split("\n")[2:-1]
            assert shown == lines[: len(shown)]
            assert length(held) <= LONGEST


pieces = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["\r\n", "\n", "\r", "\t", " ", "\U0001f600", OURS.first, OURS.last, OTHERS, OTHERS.split("\n")[0],
         THEIRS.last, BLOCK, "y" * 700, "\u2028", "--- ", " ---"]
    ),
)  # fmt: skip
texts = st.lists(pieces, max_size=8).map("".join)
line = st.text(st.characters(codec="latin-1", categories=("L", "N", "P", "Zs")), min_size=1)
lines = st.lists(line, min_size=1, max_size=21)


@given(texts, lines)
def test_whatever_the_notes_hold_ours_fits_once_and_theirs_stays(notes, block_lines):
    held = OURS.into(notes, block_lines)
    if held is None:
        return
    assert length(held) <= LONGEST
    assert OURS.into(held, block_lines) == held, "twice is once"
    rest = OURS.out_of(notes)
    left = OURS.out_of(held)
    assert left in (rest, rest + "\n")
    assert left.encode("utf-16-le", "surrogatepass").startswith(
        rest.encode("utf-16-le", "surrogatepass")
    )


@given(texts)
def test_the_block_of_another_customer_or_sync_is_never_touched(notes):
    for strange in (THEIRS, OTHER_SYNC):
        held = strange.into(notes.replace(strange.first, ""), LINES)
        if held is not None and (ours := OURS.into(held, ["Other."])) is not None:
            assert strange.block(LINES) in ours


@given(texts, lines, lines)
def test_the_last_block_put_in_is_the_one_that_stands(notes, first, second):
    once = OURS.into(notes, first)
    if once is not None and (twice := OURS.into(once, second)) is not None:
        assert OURS.out_of(twice) == OURS.out_of(once)


# ── what stands between the markers ───────────────────────────────────────────────────────────────


def event(kind: str = "unsubscribed", hours: int = 0, **detail: object) -> MemberEvent:
    happened = NOW - timedelta(hours=hours)
    return MemberEvent(
        email_key=b"k", kind=kind, before=None, after=None, happened_at=happened, detail=detail
    )


def lines_with(reason: str) -> list[str]:
    standing = ContactSummary(status=Status.UNSUBSCRIBED, since=NOW, events=[event(reason=reason)])
    return render_lines(standing, ZONE)


@pytest.mark.parametrize(
    "reason",
    [
        "Too many\r\nmails\n\nreally",
        OURS.first,
        f"\n{OURS.last}\n",
        f"x\n{BLOCK}\ny",
        "\x00\x07\x1b[31m\x7f\x9b",
        "\u2028\u2029\x85\x0b\x0c",
        "\U0001f600 お客様",
        "z" * 5000,
        "\ud83d",
    ],
)
def test_whatever_reason_a_person_gives_it_is_one_harmless_line(reason):
    found = lines_with(reason)
    assert len(found) == 2
    assert found[1].startswith("2026-03-01 unsubscribed:")
    assert found[1].isprintable()
    assert len(found[1]) <= 200
    found[1].encode("latin-1")
    held = put_in("own", found)
    assert put_in(held) == f"own\n{BLOCK}"
    assert OURS.out_of(held) == "own\n"


@given(st.text())
def test_no_reason_breaks_the_block(reason):
    found = lines_with(reason)
    assert all(line.isprintable() and len(line) <= 200 for line in found)
    assert OURS.out_of(put_in("own\n", found)) == "own\n"


@given(st.text(max_size=100))
def test_no_address_or_field_name_breaks_the_block(text):
    standing = ContactSummary(
        status=Status.SUBSCRIBED,
        address=text,
        events=[event("address_changed", email=text), event("profile_changed", fields=[text])],
    )
    found = render_lines(standing, ZONE)
    assert all(line.isprintable() for line in found)
    assert OURS.out_of(put_in("own\n", found)) == "own\n"


def test_letters_that_a_us_company_can_store_stay_as_they_are():
    assert lines_with("Zu häufig, façade £5")[1].endswith(": Zu häufig, façade £5")


def test_never_more_than_twenty_events_and_always_the_newest():
    events = [event(hours=hour) for hour in range(50)]
    found = render_lines(ContactSummary(status=Status.UNSUBSCRIBED, since=NOW, events=events), ZONE)
    assert len(found) == 1 + MAX_EVENTS


@pytest.mark.parametrize("status", [*Status, None])
@pytest.mark.parametrize("engagement", [None, *Engagement])
def test_every_standing_has_a_line_that_says_it(status, engagement):
    standing = ContactSummary(status=status, since=NOW, engagement=engagement, last_engaged=NOW)
    (said,) = render_lines(standing, ZONE)
    assert said.endswith(".")
    assert "None" not in said
    assert OURS.into("", [said])


@pytest.mark.parametrize(
    ("clicked", "engaged", "said"),
    [
        (None, NOW, "Opens or clicks, last opened 2026-03-01."),
        (NOW, NOW, "Opens or clicks, last clicked 2026-03-01."),
        (NOW - timedelta(days=3), NOW, "last clicked 2026-02-26 and opened 2026-03-01."),
    ],
)
def test_a_click_is_told_before_an_open(clicked, engaged, said):
    standing = ContactSummary(
        status=Status.SUBSCRIBED, engagement="engaged", last_clicked=clicked, last_engaged=engaged
    )
    assert render_lines(standing, ZoneInfo("UTC"))[0].endswith(said)


@pytest.mark.parametrize("state", [Engagement.ENGAGED, Engagement.QUIET, Engagement.BOUNCING])
def test_notes_and_the_console_have_the_same_words_for_engagement(state):
    standing = ContactSummary(status=Status.SUBSCRIBED, engagement=state.value)
    assert render_lines(standing, ZONE)[0].endswith(f". {words.ENGAGEMENT[state.value]}.")


def test_dates_are_those_of_the_time_zone():
    late = ContactSummary(
        status=Status.UNSUBSCRIBED, since=datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    )
    assert render_lines(late, ZoneInfo("Europe/Berlin")) == [
        "Unsubscribed from the newsletter since 2026-03-02."
    ]
