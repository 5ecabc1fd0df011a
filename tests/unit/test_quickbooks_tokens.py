"""Promise 4: a refresh token is redeemed once at a time, and nothing is used before it is kept."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from ml_connector.errors import (
    CredentialsError,
    NeedsReauth,
    RateLimited,
    ResponseLost,
    SettingsError,
    StorageError,
    Unavailable,
)
from ml_connector.quickbooks.tokens import (
    TokenEndpoint,
    TokenManager,
    TokenPair,
    read_token,
)
from ml_connector.wire.transport import Request, Response

SAMPLES = Path(__file__).parent / "samples"
NOW = datetime(2026, 10, 1, 8, 0, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def sample(status: int, name: str) -> Response:
    body = (SAMPLES / f"quickbooks_{name}").read_bytes() if name else b""
    return Response(status=status, headers={"intuit_tid": "1-5f"}, body=body)


def stored(**changes: object) -> TokenPair:
    values: dict[str, object] = {
        "access_token": "access-1",
        "refresh_token": "refresh-1",
        "expires_at": NOW + HOUR,
        "rotated_at": NOW,
    }
    return TokenPair(**{**values, **changes})  # type: ignore[arg-type]


class World:
    """Vault, lock and token endpoint in one, with a diary of what happened in which order."""

    def __init__(self, token: TokenPair, *accepted: str, interrupted: bool = False) -> None:
        self.token, self.accepted, self.interrupted = token, list(accepted), interrupted
        self.diary: list[str] = []
        self.now = NOW
        self.failure: Exception | None = None
        self.before_lock: TokenPair | None = None
        self.full_disk = False
        self.mark = ""
        self.manager = TokenManager(
            vault=self,
            lock=self.lock,
            endpoint=TokenEndpoint(self, "https://token.test", "id", "secret", clock=self.clock),
            clock=self.clock,
        )

    def clock(self) -> datetime:
        return self.now

    def load(self) -> TokenPair:
        self.diary.append("load")
        return self.token

    def save(self, token: TokenPair) -> None:
        if self.full_disk:
            raise StorageError("no room")
        self.diary.append("save")
        self.token = token

    @contextmanager
    def lock(self) -> Iterator["World"]:
        self.diary.append("lock")
        if self.before_lock:
            self.token = self.before_lock
        yield self
        self.diary.append("release")

    def refused(self) -> str:
        return self.mark

    def intend(self) -> bool:
        self.diary.append("intend")
        return self.interrupted

    def refuse(self, mark: str) -> None:
        self.diary.append("refuse")
        self.mark = mark

    def send(self, request: Request) -> Response:
        offered = parse_qs((request.body or b"").decode())["refresh_token"][0]
        self.diary.append(f"redeem {offered}")
        if self.failure:
            raise self.failure
        if offered not in self.accepted:
            return sample(400, "token_invalid_grant.json")
        return sample(200, "token.json")


def test_a_token_with_time_left_is_used_without_a_lock() -> None:
    world = World(stored())
    assert [world.manager.current(), world.manager.current()] == ["access-1", "access-1"]
    assert world.diary == ["load"]


def test_a_token_that_is_about_to_end_is_renewed_and_kept_before_the_lock_is_released() -> None:
    ending = stored(expires_at=NOW + timedelta(minutes=5), rotated_at=NOW - HOUR)
    world = World(ending, "refresh-1")
    assert world.manager.current() == "access-2"
    assert world.diary == ["load", "lock", "load", "intend", "redeem refresh-1", "save", "release"]
    assert world.token == TokenPair(
        access_token="access-2",
        refresh_token="refresh-2",
        previous_refresh_token="refresh-1",
        expires_at=NOW + HOUR,
        refresh_expires_at=NOW + 101 * DAY,
        hard_expires_at=NOW + timedelta(seconds=157494248),
        rotated_at=NOW,
    )


@pytest.mark.parametrize(
    ("fresh", "life", "left"),
    [(True, 3600, 301), (False, 3600, 300), (True, 60, 16), (False, 60, 15), (False, 3600, -5)],
)
def test_a_token_counts_as_ended_five_minutes_or_a_quarter_of_its_life_early(
    fresh: bool, life: int, left: int
) -> None:
    end = NOW + timedelta(seconds=left)
    token = stored(expires_at=end, rotated_at=end - timedelta(seconds=life))
    assert fresh is token.fresh(NOW)


def test_a_token_without_a_known_end_is_used_until_it_is_refused() -> None:
    world = World(stored(expires_at=None, rotated_at=None), "refresh-1")
    assert world.manager.current() == "access-1"
    assert world.manager.renewed("access-1") == "access-2"


def test_somebody_elses_new_token_is_taken_without_a_redemption() -> None:
    world = World(stored(), "refresh-1")
    world.before_lock = stored(access_token="access-9", refresh_token="refresh-9")
    assert world.manager.renewed("access-1") == "access-9"
    assert world.diary == ["lock", "load", "release"]
    assert world.manager.current() == "access-9"


def test_a_token_that_cannot_be_kept_is_not_used() -> None:
    world = World(stored(), "refresh-1")
    world.full_disk = True
    with pytest.raises(StorageError):
        world.manager.renewed("access-1")
    assert "release" not in world.diary


def test_an_ended_grant_is_terminal_and_tried_once() -> None:
    world = World(stored(previous_refresh_token="refresh-0"), "refresh-0")
    with pytest.raises(NeedsReauth, match="ml-connector connect"):
        world.manager.renewed("access-1")
    assert world.diary.count("redeem refresh-1") == 1
    assert "redeem refresh-0" not in world.diary


def test_a_token_that_was_refused_for_good_is_not_sent_again() -> None:
    world = World(stored(access_token=""))
    for _ in range(3):
        with pytest.raises(NeedsReauth, match="ml-connector connect"):
            world.manager.current()
    assert [step for step in world.diary if step.startswith("redeem")] == ["redeem refresh-1"]


def test_a_new_connection_ends_the_refusal() -> None:
    world = World(stored(access_token=""), "refresh-5")
    with pytest.raises(NeedsReauth):
        world.manager.current()
    world.token = stored(access_token="", refresh_token="refresh-5")
    assert world.manager.current() == "access-2"


def test_after_a_crash_the_previous_token_gets_one_last_try() -> None:
    world = World(stored(previous_refresh_token="refresh-0"), "refresh-0", interrupted=True)
    assert world.manager.renewed("access-1") == "access-2"
    assert world.diary[2:5] == ["intend", "redeem refresh-1", "redeem refresh-0"]


def test_after_a_crash_the_previous_token_is_tried_no_more_than_once() -> None:
    world = World(stored(previous_refresh_token="refresh-0"), interrupted=True)
    with pytest.raises(NeedsReauth):
        world.manager.renewed("access-1")
    assert [line for line in world.diary if "redeem" in line] == [
        "redeem refresh-1",
        "redeem refresh-0",
    ]


def test_a_lost_answer_leaves_the_intent_on_record() -> None:
    world = World(stored(), "refresh-1")
    world.failure = ResponseLost("no answer")
    with pytest.raises(ResponseLost):
        world.manager.renewed("access-1")
    assert "release" not in world.diary


def test_a_refresh_token_that_did_not_rotate_keeps_its_predecessor() -> None:
    world = World(
        stored(refresh_token="refresh-2", previous_refresh_token="refresh-1"), "refresh-2"
    )
    world.manager.renewed("access-1")
    assert world.token.previous_refresh_token == "refresh-1"


def test_a_scheduled_refresh_renews_a_token_that_is_still_good() -> None:
    world = World(stored(), "refresh-1")
    world.now = NOW + timedelta(minutes=10)
    assert world.manager.refresh().access_token == "access-2"
    assert world.manager.current() == "access-2"


def test_a_scheduled_refresh_reads_and_stores_the_pair_once() -> None:
    """Each is a request to Airflow's API server, for every connection, 29 times a day."""
    world = World(stored(), "refresh-1")
    world.now = NOW + timedelta(minutes=10)
    world.manager.refresh(since=world.now)
    assert world.diary == ["lock", "load", "intend", "redeem refresh-1", "save", "release"]


def test_a_token_rotated_since_the_run_began_or_while_it_waited_is_not_redeemed_again() -> None:
    world = World(stored())
    assert world.manager.refresh(since=NOW - HOUR).access_token == "access-1"
    world.now = NOW + timedelta(minutes=10)
    world.before_lock = stored(access_token="access-9", rotated_at=world.now)
    assert world.manager.refresh().access_token == "access-9"
    assert not [each for each in world.diary if each.startswith("redeem")]


# ── the stored form ───────────────────────────────────────────────────────────────────────────


def test_the_stored_form_survives_a_round_trip_and_has_the_names_people_rely_on() -> None:
    token = stored(
        refresh_expires_at=NOW + DAY, hard_expires_at=NOW + 9 * DAY, previous_refresh_token="r0"
    )
    values = json.loads(token.to_json())
    assert values["rotated_at"] == "2026-10-01T08:00:00Z"
    assert set(values) == {
        "access_token",
        "refresh_token",
        "previous_refresh_token",
        "expires_at",
        "refresh_expires_at",
        "hard_expires_at",
        "rotated_at",
    }
    assert TokenPair.from_json(token.to_json()) == token


def test_anything_but_the_two_tokens_may_be_missing() -> None:
    token = TokenPair.from_json('{"access_token": "a", "refresh_token": "r"}')
    assert (token.access_token, token.refresh_token, token.expires_at) == ("a", "r", None)


@pytest.mark.parametrize(
    ("fix", "text"),
    [
        ("not a JSON object", "garbage-secret"),
        ("not a JSON object", '["garbage-secret"]'),
        ("no refresh_token", '{"access_token": "garbage-secret"}'),
        (
            "expires_at is not a time",
            '{"access_token": "a", "refresh_token": "r", "expires_at": "garbage-secret"}',
        ),
        (
            "rotated_at is not a time",
            '{"access_token": "a", "refresh_token": "r", "rotated_at": 1700000000}',
        ),
        (
            "expires_at is not a time",
            '{"access_token": "a", "refresh_token": "r", "expires_at": "2026-10-01T08:00:00"}',
        ),
    ],
)
def test_nonsense_in_the_variable_is_named_with_its_fix_and_never_quoted(
    fix: str, text: str
) -> None:
    place = "Variable quickbooks_token__quickbooks_default"
    with pytest.raises(CredentialsError, match=fix) as raised:
        TokenPair.from_json(text, place=place)
    assert str(raised.value).startswith(place)
    assert "garbage-secret" not in str(raised.value)


def test_tokens_do_not_show_in_a_repr() -> None:
    assert "access-1" not in repr(stored())
    assert "refresh-1" not in repr(stored())


# ── the endpoint ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (NeedsReauth, 400, "token_invalid_grant.json"),
        (CredentialsError, 401, "token_invalid_client.json"),
        (CredentialsError, 400, "token_invalid_client.json"),
        (CredentialsError, 401, ""),
        (Unavailable, 503, "503.html"),
        (Unavailable, 200, "503.html"),
        (Unavailable, 500, ""),
        (RateLimited, 429, ""),
        (SettingsError, 404, ""),
        (SettingsError, 400, "503.html"),
    ],
)
def test_the_endpoints_errors_say_what_happens_next(
    error: type[Exception], status: int, name: str
) -> None:
    with pytest.raises(error) as raised:
        read_token(sample(status, name), NOW)
    assert type(raised.value) is error


def test_the_call_asks_for_the_hard_end_and_keeps_the_secret_out_of_the_body() -> None:
    sent: list[Request] = []

    class Recorder:
        def send(self, request: Request) -> Response:
            sent.append(request)
            return sample(200, "token.json")

    TokenEndpoint(Recorder(), "", "id", "secret", clock=lambda: NOW).redeem("r+/=&1")
    (request,) = sent
    assert request.url == "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer"
    assert request.headers["Authorization"] == "Basic aWQ6c2VjcmV0"
    assert request.headers["x-include-refresh-token-hard-expires-in"] == "true"
    assert request.body == b"grant_type=refresh_token&refresh_token=r%2B%2F%3D%261"
