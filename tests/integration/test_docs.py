"""The documentation is true of the code: commands, settings, links, targets, dependencies."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
import yaml
from typer.testing import CliRunner

from local import drawings, reference
from local.site import site_pages
from ml_connector import errors
from ml_connector.model import ChangeState, Status
from ml_connector.settings import Alerts, File, load_syncs
from ml_connector.settings_schema import DESCRIPTIONS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [
    README,
    *(
        ROOT / name
        for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "sandbox/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|\s)ml-connector( .*)?$")
_PLACEHOLDER = {
    "NAME": "main",
    "ID": "1",
    "ROW_ID": "1",
    "N": "9410",
    "ADDRESS": "127.0.0.1",
    "FILE": "state",
}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def spoken(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", text_of(page))


def shown(page: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """Whatever a page shows as code, a line at a time, that matches."""
    blocks = (line for _, body in _FENCE.findall(text_of(page)) for line in body.splitlines())
    indented = re.findall(r"^ {4}(\S.*)$", spoken(page), re.MULTILINE)
    for code in (*blocks, *indented, *_CODE.findall(spoken(page))):
        if pattern.search(code):
            yield code.removeprefix("$ ").strip()


def rows(page: Path, first_column: str) -> Iterator[list[str]]:
    """The cells of the tables whose first column has this heading."""
    within = False
    for line in text_of(page).splitlines():
        if not line.startswith("|"):
            within = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if cells[0] == first_column:
            within = True
        elif within and set(cells[0]) - set("-: "):
            yield cells


@pytest.fixture(scope="module")
def command() -> Any:
    return reference.command_line()


COMMANDS = sorted({(name(page), line) for page in PAGES for line in shown(page, _COMMAND)})


def test_commands_are_found_in_the_pages():
    assert len([line for page, line in COMMANDS if page != "docs/reference/commands.md"]) > 40


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_shown_is_understood(page, line, command):
    line = line.partition(" > ")[0]  # what it prints goes into a file
    words = shlex.split(line.replace("[", " ").replace("]", " "))
    words = [_PLACEHOLDER.get(word, word) for word in words[words.index("ml-connector") + 1 :]]
    if not words or words[0].startswith("-"):
        return
    assert words[0] in command.commands, f"{page}: there is no command {words[0]}"
    found = command.commands[words.pop(0)]
    if words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    context = found.make_context(found.name, words)
    assert context.args == [], f"{page}: {line}"


def test_the_reference_pages_are_what_make_reference_writes():
    assert text_of(reference.COMMANDS) == reference.commands_page(), "run `make reference`"
    page = text_of(reference.SETTINGS)
    assert page == reference.settings_page(page), "run `make reference`"
    assert reference.settings_table() in page


def test_help_of_every_command_can_be_shown(command):
    for sub in command.commands.values():
        assert CliRunner().invoke(typer_app(sub.callback), ["--help"]).exit_code == 0


def typer_app(callback: Any) -> typer.Typer:
    app = typer.Typer()
    app.command()(callback)
    return app


def test_the_drawings_are_what_make_reference_writes():
    for drawn, drawing in drawings.DRAWINGS.items():
        assert text_of(drawings.IMAGES / f"{drawn}.svg") == drawings.svg_of(drawing), drawn


def test_the_state_machines_have_the_states_of_the_code(postgres, template_database):
    drawn = {name: drawing.boxes.keys() for name, drawing in drawings.DRAWINGS.items()}
    assert drawn["states-change"] == set(ChangeState)
    assert drawn["states-contact"] == set(Status)
    constraint = """SELECT pg_get_constraintdef(oid) FROM pg_constraint
                    WHERE conname = 'webhook_inbox_state'"""
    with psycopg.connect(postgres.url(template_database, driver="")) as connection:
        allowed = connection.execute(constraint).fetchone()[0]
    assert drawn["states-event"] == set(re.findall(r"'(\w+)'", allowed))


def test_every_setting_of_a_sync_is_in_the_table():
    follow_from_the_file = {"name", "beside"}
    assert dict(reference.settings_keys()).keys() - follow_from_the_file == DESCRIPTIONS.keys()


def test_the_settings_beside_the_syncs_are_described_with_their_defaults():
    table = {
        row[0].strip("`"): row[1] for row in rows(ROOT / "docs/reference/alerts.md", "setting")
    }
    for key, default in reference.settings_keys(Alerts):
        assert key in table, f"docs/reference/alerts.md: {key}"
        assert table[key].strip("`") == ("" if default in ("", (), None) else str(default)), key
    page = text_of(ROOT / "docs/reference/configuration.md")
    beside = re.search(r"^.*`audit\.keep_months` \(`.*$", page, re.MULTILINE)[0]
    for section in File.model_fields.keys() - {"syncs", "alerts"}:
        model = File.model_fields[section].annotation
        for key, default in reference.settings_keys(model):
            assert f"`{section}.{key}` (`{default}`" in beside, key
            assert f"\n{section}:\n  {key}:" in page, key


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page):
    for target in _LINK.findall(spoken(page)):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name(page)}: {target}"


def test_the_sites_navigation_has_every_page():
    """Decisions are listed on a page of their own, each with its title."""
    nav = yaml.safe_load(text_of(ROOT / "docs/mkdocs.yml"))["nav"]
    decisions = ROOT / "docs/decisions"
    told = {path for path in pages_of(nav) if (ROOT / path).parent != decisions}
    assert told == {name(page) for page in site_pages() if page.parent != decisions}
    listed = {(row[0], row[1]) for row in rows(decisions / "README.md", "decision")}
    titles = {
        file.name: text_of(file).splitlines()[0].split(maxsplit=2) for file in decisions.glob("0*")
    }
    assert listed == {(f"[{number}]({file})", title) for file, (_, number, title) in titles.items()}


LONGEST = 900
"""Words of a tutorial or a how-to guide."""


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=name)
def test_a_page_is_of_one_kind_has_one_title_and_a_guide_is_short(page):
    kinds = {"tutorials", "how-to", "reference", "explanation", "runbook", "decisions"}
    assert page.parts[len(ROOT.parts) + 1] in kinds | {"README.md"}
    assert len(re.findall(r"^# ", spoken(page), re.MULTILINE)) == 1
    if "tutorials" in page.parts or "how-to" in page.parts:
        assert len(text_of(page).split()) <= LONGEST


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_belongs_to_a_list_item_is_indented_by_four(page):
    """Or the site, unlike GitHub, ends the list there and counts from 1 again."""
    before = ""
    for line in filter(str.strip, spoken(page).splitlines()):
        assert not re.match(r" {1,3}\S", line), line
        number = re.match(r"(\d+)\. ", line)
        if number and number[1] != "1":
            assert re.match(r"\d+\. | {4}", before), line
        before = line


def pages_of(nav: Any) -> Iterator[str]:
    """Every path of a navigation, sections included."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(entry)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", spoken(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


SYNC_BLOCKS = [
    pytest.param(body, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, (language, body) in enumerate(_FENCE.findall(text_of(page)))
    if language == "yaml" and "syncs:" in body
]


@pytest.mark.parametrize("block", SYNC_BLOCKS)
def test_every_settings_example_can_be_used_as_it_stands(block, tmp_path):
    file = tmp_path / "syncs.yaml"
    file.write_text(block, encoding="utf-8")
    assert load_syncs(file)


def test_settings_examples_are_found():
    assert len(SYNC_BLOCKS) >= 3


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_shown_exists(page):
    for line in shown(page, re.compile(r"^(\$ )?make [a-z]")):
        assert line.split()[1] in make_targets(), f"{name(page)}: {line}"


def test_pre_commit_runs_what_make_lint_runs():
    hooks = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", text_of(ROOT / "Makefile"), re.MULTILINE)[1]
    typed = [
        line.strip().replace("@$(BIN)", ".venv/bin").removesuffix(" .")
        for line in recipe.splitlines()
    ]
    assert [hook["entry"] for hook in hooks] == typed


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=name)
def test_issue_forms_keep_to_githubs_schema(form):
    kind = "config" if form.stem == "config" else "forms"
    schema = f"vendor.github-issue-{kind}"
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(form)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", ["docs/explanation/architecture.md", "CONTRIBUTING.md"])
def test_every_folder_of_the_tables_exists(page):
    listed = [row[0] for head in ("folder", "room") for row in rows(ROOT / page, head)]
    paths = [path for cell in listed for path in _CODE.findall(cell)]
    assert paths
    for path in paths:
        below = (ROOT / path, ROOT / "include/ml_connector" / path)
        exists = any(place.exists() for place in below)
        assert exists or list((ROOT / "include/ml_connector").glob(f"*/{path}")), path


def test_every_error_class_is_in_the_table_of_retries():
    told = {
        _CODE.findall(row[0])[0] for row in rows(ROOT / "docs/explanation/promises.md", "error")
    }
    known = {
        thing.__name__
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, errors.ConnectorError)
    }
    never_raised_yet = {"ConnectorError", "StaleObject"}  # a base, and writes to QuickBooks
    assert told == known - never_raised_yet


def test_every_direct_dependency_has_a_reason_and_no_other():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    product = project["project"]
    wanted = [
        *product["dependencies"],
        *(name for group in project["dependency-groups"].values() for name in group),
    ]
    wanted += [name for extra in product["optional-dependencies"].values() for name in extra]
    page = ROOT / "docs/decisions/0001-dependencies.md"
    cells = [row[0] for head in ("package", "packages") for row in rows(page, head)]
    told = {package for cell in cells for package in _CODE.findall(cell)}
    assert told == {re.split(r"[<>=!~ ]", package)[0] for package in wanted}


# Tables of the schema as `\d+` shows them: a partition is a part of its table, and Alembic's is not ours.
TABLES = """
    SELECT relname, obj_description(oid, 'pg_class'), relispartition
    FROM pg_class WHERE relnamespace = 'ml_connector'::regnamespace AND relkind IN ('r', 'p')
      AND relname <> 'alembic_version'
"""


@pytest.fixture(scope="module")
def tables(postgres, template_database) -> dict[str, str | None]:
    """The note of every table of a migrated database."""
    with psycopg.connect(postgres.url(template_database, driver="")) as connection:
        found = connection.execute(TABLES).fetchall()
    assert [name for name, _, partition in found if partition], "the audit has partitions"
    return {name: note for name, note, partition in found if not partition}


def test_every_table_of_the_database_is_described(tables):
    cells = [row[0] for row in rows(ROOT / "docs/reference/storage.md", "table")]
    told = {table for cell in cells for table in _CODE.findall(cell)}
    assert told == tables.keys()


def test_every_table_carries_a_note_in_the_database(tables):
    """A new table's migration says COMMENT ON TABLE, as m0019_comments.sql does."""
    assert {name for name, note in tables.items() if not note} == set()


def test_every_encrypted_or_hashed_column_says_so_in_the_database(postgres, template_database):
    """Bytes explain themselves least: each bytea column has a note of its own."""
    unexplained = """
        SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON attrelid = oid
        WHERE relnamespace = 'ml_connector'::regnamespace AND relkind IN ('r', 'p')
          AND NOT relispartition AND attnum > 0 AND NOT attisdropped
          AND atttypid IN ('bytea'::regtype, 'bytea[]'::regtype)
          AND col_description(attrelid, attnum) IS NULL
    """
    with psycopg.connect(postgres.url(template_database, driver="")) as connection:
        assert connection.execute(unexplained).fetchall() == []


def test_every_action_and_outcome_of_the_audit_is_described():
    from ml_connector.console import words

    cells = {row[0].strip("`"): row[1] for row in rows(ROOT / "docs/reference/audit.md", "column")}
    assert words.ACTION.keys() - set(_CODE.findall(cells["action"])) == set()
    assert words.OUTCOME.keys() - set(_CODE.findall(cells["outcome"])) == set()


def test_the_variables_of_the_example_file_are_described():
    named = set(re.findall(r"^#?([A-Z][A-Z_]+)=", text_of(ROOT / ".env.example"), re.MULTILINE))
    page = text_of(ROOT / "docs/reference/configuration.md")
    assert {variable for variable in named if f"`{variable}`" not in page} == set()


def test_every_variable_that_the_code_reads_is_described():
    told = "".join(text_of(page) for page in PAGES)
    for folder in ("include", "plugins", "dags", "deploy"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".sh", ".yaml"}:
                named = set(re.findall(r"\bML_CONNECTOR_[A-Z_]*[A-Z]\b", text_of(file)))
                missing = {each for each in named if each not in told}
                assert missing == set(), name(file)


def test_pages_that_the_code_names_exist():
    names = (".env.example", "*.toml", "docker-compose.yaml", "Makefile", ".github/**/*.*")
    folders = ("include", "plugins", "dags", "local", "sandbox", "deploy", "bench", "tests")
    places = [file for each in names for file in ROOT.glob(each)]
    for folder in folders:
        for kind in ("py", "yaml", "sh", "sql"):
            places += (ROOT / folder).rglob(f"*.{kind}")
    for file in places:
        for page in re.findall(r"(?<![\w./-])docs/[\w./-]+\.md", text_of(file)):
            assert (ROOT / page).exists(), f"{name(file)} names {page}"


MESSAGES = [
    pytest.param(message, id=f"{name(page)}-{message[:40]}")
    for page in PAGES
    for row in rows(page, "message")
    for message in _CODE.findall(row[0])
]


@pytest.fixture(scope="module")
def said() -> str:
    """Every string of the code, a placeholder as a number sign."""
    found = []
    for folder in ("include", "plugins"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(text_of(file))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [getattr(part, "value", None) for part in parts]
                found.append("".join(each if isinstance(each, str) else "#" for each in texts))
    return "\n".join(found)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_with_a_fix_are_those_of_the_code(message, said):
    """Of each message three words in a row, since the rest may be filled in."""
    words = message.split()
    runs = [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]
    assert any(run in said for run in runs), message


WHOLE = 2_000
"""A selection of the tests has fewer."""


def test_the_readme_counts_the_tests(request):
    tests = [item for item in request.session.items if not item.get_closest_marker("endurance")]
    if len(tests) < WHOLE:
        pytest.skip("counts the tests of a whole run only")
    (told,) = re.findall(r"# ([\d,]+) tests, in about", README.read_text())
    assert int(told.replace(",", "")) == pytest.approx(len(tests), rel=0.05)


def test_the_readme_is_short_and_shows_the_console():
    words = re.sub(r"\]\([^)]*\)", "]", text_of(README)).split()
    assert len(words) <= 700
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text_of(README))
    assert (ROOT / picture).is_file()
    assert "|---|" in text_of(README), "the compatibility table"
    assert not [*rows(README, "key"), *rows(README, "command")], "tables of docs/"


def test_the_readme_names_what_the_package_declares():
    """Airflow, Python and Postgres of the compatibility table."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    table = {row[0]: row[1] for row in rows(README, "runs on")}
    (airflow,) = re.findall(r"apache-airflow>=([\d.]+),<4", " ".join(project["dependencies"]))
    locks = sorted(lock.stem.rpartition(".")[0] for lock in (ROOT / "tests/airflow").glob("*.txt"))
    assert table["Airflow"] == ", ".join(locks)
    assert locks[0] == airflow
    pythons = [
        found[1]
        for each in project["classifiers"]
        if (found := re.search(r"Python :: (3\.\d+)$", each))
    ]
    assert table["Python"] == ", ".join(pythons)
    assert project["requires-python"] == f">={pythons[0]}"
    assert f"Postgres {table['Postgres']}" in text_of(ROOT / "docs/reference/storage.md")


def test_the_changelog_has_the_packages_version_below_what_is_unreleased():
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    releases = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", text_of(CHANGELOG), re.MULTILINE)
    assert [name for name, _ in releases[:2]] == ["Unreleased", version]
    assert releases[1][1], f"{version} has no date"


def test_images_have_the_packages_version():
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    places = [
        ROOT / "docker-compose.yaml",
        *(ROOT / "deploy").rglob("*.yaml"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    tags = {
        (name(place), tag)
        for place in places
        for tag in re.findall(r"\bml-connector:(\d+\.\d+[\w.]*)", text_of(place))
    }
    assert tags
    assert {(place, tag) for place, tag in tags if tag != version} == set()
