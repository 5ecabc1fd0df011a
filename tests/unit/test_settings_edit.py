"""A settings file is changed where it was asked, and nowhere else."""

from pathlib import Path

import pytest

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
    schedule: "0 2 * * *"
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
