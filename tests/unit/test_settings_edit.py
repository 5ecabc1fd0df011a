"""A settings file is changed where it was asked, and nowhere else."""

import errno
import os
from pathlib import Path

import pytest
import yaml

from ml_connector.errors import SettingsError
from ml_connector.settings import load_syncs
from ml_connector.settings_edit import SettingsEdit

SHIPPED = Path(__file__).resolve().parents[2] / "include/config/syncs.yaml"
OWN = """\
# Ours, do not lose.
alerts:
  to: []      # nobody yet

syncs:
  main:               # the shop
    audience_id: a1b2c3d4e5   # Newsletter
    new_contact_status: 'pending'

    # Asked the lawyer in May.
    fields:
      FNAME: GivenName   # as on invoices
      NAME: "{GivenName} {FamilyName}"
      LNAME:
        - FamilyName
        - DisplayName
    tags: {static: [QuickBooks], from: {job: Job}}
    schedule: "0 4 * * *"
  # The branch.
  branch: {audience_id: x, new_contact_status: pending, fields: {FNAME: GivenName}}

# Kept by law.
audit: {keep_months: 24}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "syncs.yaml"
    path.write_text(OWN)
    return path


def changed(edit: SettingsEdit) -> list[str]:
    """The lines that are new or gone."""
    return [line for line in edit.diff().splitlines()[2:] if line[0] in "+-"]


@pytest.mark.parametrize("text", [OWN, SHIPPED.read_text()])
def test_a_file_that_nobody_changes_stays_as_it_is(tmp_path, text):
    path = tmp_path / "syncs.yaml"
    path.write_text(text)
    edit = SettingsEdit(path)
    for key, value in edit.sync("main").items():
        edit.put("main", key, value)
    assert edit.diff() == ""
    edit.save()
    assert path.read_text() == text


def test_only_the_keys_that_are_put_change(file):
    edit = SettingsEdit(file)
    edit.put("main", "new_contact_status", "subscribed")
    edit.put("main", "tags", ["QuickBooks", "Customers"])
    assert changed(edit) == [
        "-    new_contact_status: 'pending'",
        "+    new_contact_status: 'subscribed'",
        "-    tags: {static: [QuickBooks], from: {job: Job}}",
        "+    tags: {static: [QuickBooks, Customers], from: {job: Job}}",
    ]


def test_a_field_changes_without_its_neighbours(file):
    edit = SettingsEdit(file)
    fields = edit.sync("main")["fields"]
    wanted = {tag: source for tag, source in fields.items() if tag != "NAME"}
    edit.put("main", "fields", wanted | {"PHONE": "PrimaryPhone.FreeFormNumber"})
    assert changed(edit) == [
        '-      NAME: "{GivenName} {FamilyName}"',
        "+      PHONE: PrimaryPhone.FreeFormNumber",
    ]


def test_a_new_key_stays_above_the_remarks_on_the_next_sync(file):
    edit = SettingsEdit(file)
    edit.put("main", "timezone", "Europe/Berlin")
    assert changed(edit) == ["+    timezone: Europe/Berlin"]
    edit.save()
    assert load_syncs(file)["main"].timezone == "Europe/Berlin"


def test_a_remark_of_ours_is_replaced_and_one_of_yours_is_not(file):
    edit = SettingsEdit(file)
    edit.put("main", "audience_id", "ffffffffff")
    edit.note("main", "audience_id", "Customers", instead_of=("Newsletter",))
    edit.note("main", "audience_id", "Others", instead_of=("Newsletter",))
    assert changed(edit)[-1] == "+    audience_id: ffffffffff   # Customers"


def test_a_sync_is_added_below_the_others_with_its_explanations(file):
    edit = SettingsEdit(file)
    edit.add_sync("third")
    for key, value in {"audience_id": "b", "new_contact_status": "pending"}.items():
        edit.put("third", key, value)
    edit.put("third", "fields", {"FNAME": "GivenName"})
    assert all(line.startswith("+") for line in changed(edit))
    edit.save()
    assert [*load_syncs(file)] == ["main", "branch", "third"]
    text = file.read_text()
    assert text.index("third:") < text.index("# Kept by law.")
    assert "# Mailchimp asks" not in text
    assert "pending        Mailchimp asks each" in text


def test_a_file_that_is_not_there_is_made_with_comments(tmp_path):
    path = tmp_path / "deep" / "syncs.yaml"
    edit = SettingsEdit(path)
    assert edit.syncs == []
    edit.add_sync("main")
    edit.put("main", "audience_id", "b")
    edit.put("main", "new_contact_status", "pending")
    edit.put("main", "fields", {"FNAME": "GivenName", "LNAME": "FamilyName"})
    edit.put("main", "tags", ["QuickBooks"])
    edit.note("main", "audience_id", "Newsletter")
    edit.save()
    (sync,) = load_syncs(path).values()
    assert (sync.new_contact_status, sync.fields["LNAME"]) == ("pending", ("FamilyName",))
    text = path.read_text()
    assert "      FNAME: GivenName\n      LNAME: FamilyName\n" in text
    assert "# Newsletter" in text
    assert "tags: [QuickBooks]" in text


@pytest.mark.parametrize("text", ["syncs: [", "- main", "syncs: [main]"])
def test_a_file_that_holds_no_syncs_is_refused(tmp_path, text):
    path = tmp_path / "syncs.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        SettingsEdit(path)


BASE = """\
syncs:
  main:
    audience_id: aud1
    new_contact_status: pending
    fields: {FNAME: GivenName}
"""


@pytest.fixture
def edited(tmp_path):
    """Return a text after keys of a sync were put."""

    def put(text, *puts, sync="main"):
        path = tmp_path / "syncs.yaml"
        path.write_bytes(text.encode())
        edit = SettingsEdit(path)
        for key, value in puts:
            edit.put(sync, key, value)
        return edit.text()

    return put


SHARED = {
    "alias": """\
syncs:
  a:
    new_contact_status: pending
    fields: &f
      FNAME: GivenName
  b:
    new_contact_status: pending
    fields: *f   # as there
""",
    "merge": """\
base: &base
  fields: {FNAME: GivenName}
syncs:
  a: {<<: *base, audience_id: aud1}
  b:
    <<: *base
    audience_id: aud2
""",
    "sync": """\
syncs:
  a: &a
    fields: {FNAME: GivenName}
  b:
    <<: *a
    audience_id: aud2
""",
    "whole sync": """\
syncs:
  a: &a {fields: {FNAME: GivenName}}
  b: *a
""",
}


@pytest.mark.parametrize("text", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize(("sync", "other"), [("a", "b"), ("b", "a")])
def test_what_an_anchor_shares_changes_in_one_sync_alone(edited, text, sync, other):
    before = yaml.safe_load(text)
    after = yaml.safe_load(edited(text, ("fields", {"FNAME": "CompanyName"}), sync=sync))
    assert after["syncs"][sync]["fields"] == {"FNAME": "CompanyName"}
    assert after["syncs"][other] == before["syncs"][other]
    assert after.get("base") == before.get("base")


def test_a_key_that_another_sync_would_inherit_is_not_added(edited):
    with pytest.raises(SettingsError, match="schedule of a cannot be changed alone"):
        edited(SHARED["sync"], ("schedule", "0 3 * * *"), sync="a")


@pytest.mark.parametrize(
    ("key", "value"), [("tags", ["B"]), ("tags", []), ("fields", {"FNAME": "GivenName"})]
)
def test_comments_below_a_list_or_a_removed_field_stay(edited, key, value):
    text = """\
syncs:
  main:
    tags:
      - A
    # Kept by law.
    fields:
      FNAME: GivenName
      PHONE: PrimaryPhone.FreeFormNumber
    # Ask Jane before you raise this.
    guard: {max_archives: 25}
"""
    after = edited(text, (key, value))
    assert yaml.safe_load(after)["syncs"]["main"][key] == value
    assert "    # Kept by law.\n" in after
    assert "    # Ask Jane before you raise this.\n" in after


def test_comments_in_a_block_stay_if_all_of_it_goes(edited):
    text = BASE + "    tags:  # ours\n      - A\n      # Since May.\n      - B\n"
    assert edited(text, ("tags", [])) == BASE + "    tags: []  # ours\n      # Since May.\n"


def test_items_of_a_list_change_without_their_neighbours(edited):
    text = BASE + "    tags:\n    - A  # first\n    # then\n    - B\n    - C  # last\n"
    assert edited(text, ("tags", ["A", "C", "No"])) == text.replace("    - B\n", "") + (
        '    - "No"\n'
    )


LAYOUTS = {
    "four spaces": BASE.replace("  ", "    "),
    "crlf": BASE.replace("\n", "\r\n"),
    "no line end": BASE.rstrip("\n"),
    "marks": "---\n" + BASE + "    on_inactive:   archive     # aligned\n    timezone: ~\n...\n",
    "quotes": BASE.replace("pending", "'pending'").replace("GivenName", '"GivenName"'),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_stays(edited, text):
    expected = text.replace("aud1", "aud2")
    assert edited(text, ("audience_id", "aud2")).rstrip("\n") == expected.rstrip("\n")


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_new_keys_and_syncs_follow_the_layout(tmp_path, text):
    path = tmp_path / "syncs.yaml"
    path.write_bytes(text.removesuffix("...\n").encode())
    edit = SettingsEdit(path)
    edit.put("main", "schedule", "0 3 * * *")
    edit.put("main", "fields", {"FNAME": "GivenName", "LNAME": "FamilyName"})
    edit.add_sync("second")
    edit.put("second", "fields", {"FNAME": "GivenName"})
    found = yaml.safe_load(edit.text())["syncs"]
    assert found["main"]["schedule"] == "0 3 * * *"
    assert found["main"]["fields"] == {"FNAME": "GivenName", "LNAME": "FamilyName"}
    assert found["second"]["fields"] == {"FNAME": "GivenName"}
    assert edit.text().count("\r\n") in (0, edit.text().count("\n"))


@pytest.mark.parametrize("word", ["No", "On", "NO", "y", "1e3", "1_0", "0x1", "~", "a: b", "# c"])
def test_a_word_that_yaml_reads_otherwise_is_quoted(edited, word):
    after = edited(BASE, ("tags", [word]), ("fields", {"FNAME": "GivenName", word: "FamilyName"}))
    found = yaml.safe_load(after)["syncs"]["main"]
    assert found["tags"] == [word]
    assert found["fields"] == {"FNAME": "GivenName", word: "FamilyName"}
    assert f'tags: ["{word}"]' in after


def test_a_list_of_one_source_stays_a_list(edited):
    text = BASE.replace("{FNAME: GivenName}", "{FNAME: [GivenName]}")
    assert edited(text, ("fields", {"FNAME": "GivenName"})) == text
    changed = edited(text, ("fields", {"FNAME": "FamilyName"}))
    assert changed == text.replace("GivenName", "FamilyName")


NEARLY_EMPTY = [
    "# Nothing yet.\n",
    "# Nothing yet.\nsyncs: {}  # none\n# End.\n",
    "# Nothing yet.\nsyncs:\n# End.\n",
    "# Nothing yet.\nsyncs:\n  main:\n",
    "# Nothing yet.\nsyncs:\n    main: {}  # soon\n    # End.\n",
    "# Nothing yet.\nalerts: {to: []}",
]


@pytest.mark.parametrize("text", NEARLY_EMPTY)
def test_a_sync_is_added_to_a_file_without_any(tmp_path, text):
    path = tmp_path / "syncs.yaml"
    path.write_text(text)
    edit = SettingsEdit(path)
    assert edit.sync("main") == {}
    edit.add_sync("main")
    edit.put("main", "audience_id", "aud2")
    edit.put("main", "new_contact_status", "pending")
    edit.put("main", "fields", {"FNAME": "GivenName"})
    edit.save()
    assert load_syncs(path)["main"].audience_id == "aud2"
    for remark in ("# Nothing yet.", "# none", "# soon", "# End."):
        assert (remark in path.read_text()) == (remark in text)


def test_a_text_that_no_run_could_read_is_not_written(tmp_path):
    path = tmp_path / "syncs.yaml"
    path.write_text(BASE)
    edit = SettingsEdit(path)
    edit.put("main", "new_contact_status", "maybe")
    with pytest.raises(SettingsError, match="new_contact_status"):
        edit.save()
    assert path.read_text() == BASE


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES])
def test_a_file_that_cannot_be_replaced_is_written_in_place(tmp_path, monkeypatch, code):
    """A file that is mounted by itself cannot be renamed over."""
    path = tmp_path / "syncs.yaml"
    path.write_text(BASE)
    number = path.stat().st_ino

    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", refused)
    edit = SettingsEdit(path)
    edit.put("main", "audience_id", "a")  # the new text is shorter
    edit.save()
    assert path.read_text() == BASE.replace("aud1", "a")
    assert path.stat().st_ino == number
    assert [each.name for each in tmp_path.iterdir()] == ["syncs.yaml"]
    edit = SettingsEdit(path)
    edit.put("main", "audience_id", "aud2")
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(SettingsError, match="cannot be written"):
        edit.save()
    assert path.read_text() == BASE.replace("aud1", "a")


def test_a_file_is_replaced_at_once_and_keeps_its_mode_and_its_link(tmp_path):
    path, link = tmp_path / "real.yaml", tmp_path / "syncs.yaml"
    path.write_text(BASE)
    path.chmod(0o640)
    link.symlink_to(path)
    edit, late = SettingsEdit(link), SettingsEdit(link)
    edit.put("main", "audience_id", "aud2")
    edit.save()
    assert path.read_text() == BASE.replace("aud1", "aud2")
    assert (path.stat().st_mode & 0o777, link.is_symlink()) == (0o640, True)
    assert {each.name for each in tmp_path.iterdir()} == {"real.yaml", "syncs.yaml"}
    with pytest.raises(SettingsError, match="changed meanwhile"):
        late.save()
