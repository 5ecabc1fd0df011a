"""The retry budget: how often, how long, and what is said in the end. Nothing here sleeps."""

import pytest

from ml_connector.errors import (
    CredentialsError,
    QuotaExhausted,
    RateLimited,
    RecordRefused,
    ResponseLost,
    RetryLater,
    Unavailable,
)
from ml_connector.wire.retries import Retries


class Call:
    """Fails with each of ``errors`` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.made = list(errors), 0

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def down(times: int, retry_after: float | None = None) -> list[Exception]:
    return [Unavailable("down", retry_after=retry_after) for _ in range(times)]


def test_a_call_that_works_is_made_once():
    slept: list[float] = []
    call = Call()
    assert Retries(sleep=slept.append).call(call) == "answer"
    assert (call.made, slept) == (1, [])


@pytest.mark.parametrize("kind", [RateLimited, Unavailable, ResponseLost, RetryLater])
def test_what_may_succeed_later_is_repeated(kind):
    slept: list[float] = []
    assert Retries(sleep=slept.append).call(Call(kind("later"), kind("later"))) == "answer"
    assert len(slept) == 2


@pytest.mark.parametrize(
    "error", [CredentialsError("no"), RecordRefused("no", code="x"), ValueError("bug")]
)
def test_what_cannot_succeed_is_not_repeated(error):
    call = Call(error)
    with pytest.raises(type(error)):
        Retries(sleep=lambda _: None).call(call)
    assert call.made == 1


@pytest.mark.parametrize(("chance", "expected"), [(0.0, [0, 0, 0, 0]), (1.0, [1, 2, 4, 8])])
def test_waits_double_and_are_drawn_from_the_whole_range(chance, expected):
    slept: list[float] = []
    Retries(sleep=slept.append, chance=lambda: chance).call(Call(*down(4)))
    assert slept == expected


def test_no_wait_is_longer_than_the_longest():
    slept: list[float] = []
    retries = Retries(tries=10, total_wait=1e6, sleep=slept.append, chance=lambda: 1.0)
    retries.call(Call(*down(9)))
    assert slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_retry_after_is_the_least_wait_and_is_jittered_upwards():
    slept: list[float] = []
    Retries(sleep=slept.append, chance=lambda: 0.5).call(Call(*down(2, retry_after=30)))
    assert slept == [30.5, 31.0]


def test_the_last_error_goes_up_after_the_last_try():
    call = Call(*down(9))
    with pytest.raises(Unavailable, match="down"):
        Retries(tries=3, sleep=lambda _: None).call(call)
    assert call.made == 3


def test_the_time_budget_ends_the_tries_before_their_number_does():
    slept: list[float] = []
    call = Call(*down(9, retry_after=40))
    retries = Retries(tries=10, total_wait=100, sleep=slept.append, chance=lambda: 0.0)
    with pytest.raises(Unavailable):
        retries.call(call)
    assert (slept, call.made) == ([40, 40], 3)


def test_a_retry_after_beyond_the_budget_is_not_slept_at_all():
    slept: list[float] = []
    call = Call(RateLimited("429", retry_after=3600))
    with pytest.raises(QuotaExhausted, match="429; still so after 1 tr"):
        Retries(sleep=slept.append).call(call)
    assert slept == []


def test_a_rate_limit_that_lasts_is_a_used_up_quota_with_the_vendors_request_id():
    errors = [RateLimited("too many requests", request_id="tid-7") for _ in range(5)]
    with pytest.raises(QuotaExhausted, match="still so after 5 tries") as ended:
        Retries(sleep=lambda _: None).call(Call(*errors))
    assert ended.value.request_id == "tid-7"
    assert isinstance(ended.value.__cause__, RateLimited)


def test_every_repeated_failure_is_heard_with_its_number_and_the_wait_after_it():
    heard: list[tuple[str, int, float]] = []
    retries = Retries(
        tries=3,
        sleep=lambda _: None,
        chance=lambda: 0.5,
        on_retry=lambda error, n, wait: heard.append((error.message, n, wait)),
    )
    with pytest.raises(Unavailable):
        retries.call(Call(*down(3)))
    assert heard == [("down", 1, 0.5), ("down", 2, 1.0), ("down", 3, 0.0)]
