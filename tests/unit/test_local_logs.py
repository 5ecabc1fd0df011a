"""The reason of a failure is the exception in a log, wherever it stands."""

import pytest

from local.logs import last_words, reason_of

TRACEBACK = """\
starting
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    raise KeyError("one")
KeyError: 'one'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "x.py", line 2, in <module>
sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) connection refused
(Background on this error at: https://sqlalche.me/e/20/e3q8)
shutting down: 1 Error: none
"""


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("OperationalError: (psycopg2.OperationalError) connection refused", TRACEBACK),
        ("ValueError: the port is taken", "ValueError: the port is taken\nbye\n"),
        ("AirflowConfigException: no such key", "airflow.exceptions.AirflowConfigException: no such key\n"),
        ("bye", "hello\nthere was an Error: in the middle\nbye\n"),
        ("its log is empty", "\n\n"),
    ],
)  # fmt: skip
def test_the_reason_is_the_last_exception_and_without_one_the_last_line(expected, text, tmp_path):
    log = tmp_path / "log"
    log.write_text(text)
    assert reason_of(log) == expected


def test_a_log_that_cannot_be_read_is_said_to_be_so(tmp_path):
    assert reason_of(tmp_path / "none") == "its log cannot be read"
    assert last_words(tmp_path / "none") == "its log cannot be read"
