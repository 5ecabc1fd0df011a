"""A month of daily runs with steady change costs at its end what it cost at its beginning."""

import pytest

from bench.soak import TEN, Cost, Sample, compared, judged, live, trend

CUSTOMERS, DAYS = 100, 30


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_a_month_of_daily_runs_keeps_calls_rows_read_and_dead_rows_of_a_run(
    mock_servers, company, database_url
):
    ports = tuple(
        int(url.rpartition(":")[2]) for url in (mock_servers.quickbooks, mock_servers.mailchimp)
    )
    lived = list(live(database_url, ports, CUSTOMERS, DAYS))
    costs = [cost for cost, _ in lived]
    assert len(costs) == DAYS
    assert all(each.calls for each in costs)
    assert [line for line in compared(costs) if not line[2] and "cpu" not in line[0]] == []
    # A pool may open its last connection late; a leak would show twenty times by then.
    for name in ("handles", "connections"):
        held = [getattr(sample, name) for _, sample in lived]
        assert max(held[TEN:]) <= max(held[:TEN]) + 2, (name, held)


def test_what_grows_is_named():
    def sample(number: int, **more: int) -> Sample:
        values = {"at": number, "memory": 100, "handles": 20, "connections": 3} | more
        return Sample(**values, tables={"audit": (2 << 20, 1000)})

    assert all(good for *_, good in judged([sample(number) for number in range(20)]))
    leaking = [sample(number, handles=20 + number) for number in range(20)]
    assert [name for name, _, good in judged(leaking) if not good] == ["file handles"]
    assert trend([1, 1, 1, 1]) == 0

    dearer = [Cost(5, 1.0, 40, 1000 + 100 * number, 10) for number in range(30)]
    assert [name for name, _, good in compared(dearer) if not good] == ["cost of a run, rows_read"]
