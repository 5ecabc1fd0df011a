"""Money, tax and terms never leave QuickBooks: row A47 of docs/reference/behaviour.md."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.customer_paths import PATHS
from ml_connector.errors import SettingsError
from ml_connector.mailchimp.protocol import member_body
from ml_connector.model import MemberWrite, Unreadable
from ml_connector.quickbooks import protocol
from ml_connector.rules.attributes import groups_of, language_of, left_out, tags_of
from ml_connector.rules.fields import customer_from
from ml_connector.settings import Sync, load_syncs
from ml_connector.wire.transport import Response

# https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customer
MONEY_TAX_AND_TERMS = [
    "Balance",
    "BalanceWithJobs",
    "OpenBalanceDate",
    "CreditLimit",
    "OverDueBalance",
    "TotalRevenue",
    "TotalExpense",
    "TaxExemptionReasonId",
    "PrimaryTaxIdentifier",
    "SecondaryTaxIdentifier",
    "BusinessNumber",
    "GSTIN",
    "GSTRegistrationType",
    "ResaleNum",
    "DefaultTaxCodeRef",
    "Taxable",
    "SalesTermRef",
    "PaymentMethodRef",
    "ARAccountRef",
    "CCDetail",
    "ClientEntityId",
]
SENT_ON = [
    "Id",
    "Active",
    "Job",
    "IsProject",
    "Level",
    "BillWithParent",
    "DisplayName",
    "FullyQualifiedName",
    "PrintOnCheckName",
    "Title",
    "GivenName",
    "MiddleName",
    "FamilyName",
    "Suffix",
    "CompanyName",
    "Notes",
    "PreferredDeliveryMethod",
    "Locale",
    "PrimaryEmailAddr.Address",
    "PrimaryPhone.FreeFormNumber",
    "AlternatePhone.FreeFormNumber",
    "Mobile.FreeFormNumber",
    "Fax.FreeFormNumber",
    "WebAddr.URI",
    "BillAddr",
    "BillAddr.City",
    "ShipAddr.Line1",
    "ParentRef.name",
    "CustomerTypeRef.value",
    "CurrencyRef.value",
    "MetaData.CreateTime",
]
WHOLE_ADDRESSES = ["BillAddr"]
NEVER_NAMED = [*MONEY_TAX_AND_TERMS, "V4IDPseudonym", "Source", "domain", "sparse", "DefinitionId"]
CUSTOM = ["CustomField[Region]", "CustomField[Sales rep. [new]]"]


def load(tmp_path, rule):
    file = tmp_path / "syncs.yaml"
    file.write_text(
        "syncs:\n  main:\n    audience_id: a\n    new_contact_status: pending\n"
        f"    {rule}\n" + ("" if "fields" in rule else "    fields: {FNAME: GivenName}\n"),
        encoding="utf-8",
    )
    return load_syncs(file)


@pytest.mark.parametrize("path", MONEY_TAX_AND_TERMS)
@pytest.mark.parametrize(
    "rule",
    [
        "fields: {COMPANY: %s}",
        'fields: {COMPANY: "{DisplayName} owes {%s}"}',
        'tags: {from: {%s: "owes {value}"}}',
    ],
)
def test_a47_a_setting_that_names_money_tax_or_terms_is_refused_with_the_reason(
    tmp_path, rule, path
):
    with pytest.raises(SettingsError, match="never money, tax or terms"):
        load(tmp_path, rule % path)


@pytest.mark.parametrize("path", [*SENT_ON, *CUSTOM])
def test_a47_a_setting_may_name_what_describes_a_person(tmp_path, path):
    assert load(tmp_path, f'fields: {{COMPANY: "{path}"}}')["main"].fields == {"COMPANY": (path,)}
    if not PATHS.get(path):
        template = f"{{{path}}}!"
        assert load(tmp_path, f'fields: {{COMPANY: "{template}"}}')


NEVER_A_VALUE = [
    "fields: {PHONE: PrimaryPhone}",
    "fields: {TYPE: CustomerTypeRef}",
    "fields: {TYPE: CustomerTypeRef.name}",
    'fields: {TYPE: "{CustomerTypeRef.name}"}',
    "fields: {TYPE: [GivenName, CurrencyRef]}",
    "fields: {FNAME: GivenName.}",
    "fields: {ADDRESS: BillAddr.}",
    'fields: {FNAME: "{GivenName.}"}',
    "language: BillAddr",
    "language: CustomerTypeRef",
    "groups: {X: BillAddr}",
    "groups: {X: CustomerTypeRef.name}",
    "tags: {from: {BillAddr: Billed}}",
    "tags: {from: {MetaData: Known}}",
]


@pytest.mark.parametrize("rule", NEVER_A_VALUE)
def test_a47_a_source_that_can_never_have_a_value_is_refused(tmp_path, rule):
    with pytest.raises(SettingsError, match=r"has parts, so|is not an attribute"):
        load(tmp_path, rule)


@pytest.mark.parametrize("name", ["CustomerTypeRef", "CurrencyRef"])
def test_a47_a_reference_stands_for_its_value_in_tags_and_groups(tmp_path, name):
    assert load(tmp_path, f"groups: {{X: {name}}}")["main"].groups == {"X": name}
    assert load(tmp_path, f'tags: {{from: {{{name}: "{{value}}"}}}}')["main"].tags.derived


@given(
    kept=st.fixed_dictionaries(
        {
            "Id": st.just("1"),
            "SyncToken": st.just("0"),
            "MetaData": st.just({"LastUpdatedTime": "2026-01-01T00:00:00Z"}),
        },
        optional={name: st.text() for name in ("DisplayName", "GivenName", "Notes", "Title")}
        | {"BillAddr": st.fixed_dictionaries({}, optional={"Line1": st.text(), "City": st.text()})},
    ),
    money=st.dictionaries(
        st.sampled_from(MONEY_TAX_AND_TERMS),
        st.one_of(st.floats(allow_nan=False), st.text(), st.dictionaries(st.text(), st.text())),
    ),
    broken=st.booleans(),
)
def test_a47_what_is_not_on_the_list_is_dropped_while_decoding(kept, money, broken):
    rows = [{**money, **kept}, *([7] if broken else [])]
    responses = {
        "QueryResponse": {"Customer": rows},
        "CDCResponse": [{"QueryResponse": [{"Customer": rows}]}],
        "BatchItemResponse": [{"bId": "1", "Customer": rows[0]}],
    }
    body = msgspec.json.encode(responses)
    document = protocol.read(Response(status=200, headers={}, body=body))
    read = protocol.read_rows(document, latest=datetime.now(UTC))
    assert [row for row in read if not isinstance(row, Unreadable)] == [kept]
    assert protocol.read_changes(document) == [{"Id": "1"}]
    assert protocol.read_batch(document) == {"1": kept}


@given(
    names=st.lists(
        st.sampled_from(["Region", "REGION", " Tier ", "Credit", "", None, 7]), max_size=8
    ),
    wanted=st.sets(st.sampled_from(["region", "tier", "other"])),
    asked=st.booleans(),
)
def test_a52_of_the_custom_fields_only_those_that_the_settings_name_are_decoded(
    names, wanted, asked
):
    fields = [{"Name": name, "StringValue": "x", "DefinitionId": "1"} for name in names]
    bare = {
        "Id": "1",
        "SyncToken": "0",
        "MetaData": {"LastUpdatedTime": "2026-01-01T00:00:00Z"},
    }
    body = {"QueryResponse": {"Customer": [{**bare, "CustomField": [*fields, 7, None]}]}}
    response = Response(status=200, headers={}, body=msgspec.json.encode(body))
    document = protocol.read(response, custom_fields=asked)
    (row,) = protocol.read_rows(document, wanted, latest=datetime.now(UTC))
    assert isinstance(row, dict)
    expected = [each for each in fields if str(each["Name"]).strip().casefold() in wanted]
    assert row.get("CustomField", []) == (expected if asked and wanted else [])
    (row,) = protocol.read_rows(document, latest=datetime.now(UTC))
    assert isinstance(row, dict)
    if not asked:
        assert row == bare
        assert "CustomField" not in document["QueryResponse"]["Customer"][0]


SECRET = "owes-9,876.54"
TEXTS = [each for each in SENT_ON if each not in WHOLE_ADDRESSES]
TEXT_SOURCES = [*TEXTS, *CUSTOM, *(f"a {{{each}}}, {{DisplayName}}" for each in TEXTS)]
SOURCES = [*TEXT_SOURCES, *WHOLE_ADDRESSES]


def whole_customer(odd):
    """A customer with every attribute of the schema; what may not leave QuickBooks is SECRET."""
    row = {
        name: {part: f"{name} {part}" for part in parts} or name for name, parts in PATHS.items()
    }
    for parts in row.values():
        if isinstance(parts, dict):
            parts.update({"Balance": SECRET, "Lat": SECRET, "Tag": SECRET})
    fields = [("Region", "North"), ("Credit", SECRET), ("region limit", SECRET)]
    custom = [
        {"Name": name, "DefinitionId": SECRET, "StringValue": value} for name, value in fields
    ]
    money = {name: odd(SECRET) for name in NEVER_NAMED}
    times = {"CreateTime": "2026-01-01T00:00:00Z", "LastUpdatedTime": "2026-01-01T00:00:00Z"}
    flags = {"SyncToken": "0", "Active": True, "Job": True, "IsProject": False}
    row["CustomerTypeRef"]["value"] = "1"
    return {**row, **flags, "MetaData": times, "CustomField": custom, **money}


@given(
    fields=st.dictionaries(
        st.sampled_from(["A", "B", "C"]), st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3)
    ),
    tags=st.dictionaries(
        st.sampled_from([*TEXTS, *CUSTOM, "customer_type", "CurrencyRef", "job"]), st.just("t")
    ),
    groups=st.dictionaries(
        st.sampled_from(["X", "Y"]), st.sampled_from([*TEXT_SOURCES, "CurrencyRef", "currency"])
    ),
    language=st.sampled_from(["", *TEXT_SOURCES]),
    odd=st.sampled_from(
        [
            str,
            lambda text: {"value": text, "name": text},
            lambda text: [text],
            lambda text: {"Name": [text]},
        ]
    ),
)
def test_a47_no_attribute_off_the_list_reaches_mailchimp_by_any_setting(
    fields, tags, groups, language, odd
):
    sync = Sync.model_validate(
        {
            "name": "main", "audience_id": "a", "new_contact_status": "pending",
            "fields": fields, "tags": {"from": {each: "t {value}" if each != "job" else "t" for each in tags}},
            "groups": groups, "language": language,
            "include": {"CustomField[Region]": "North"},
        }
    )  # fmt: skip
    body = msgspec.json.encode({"QueryResponse": {"Customer": [whole_customer(odd)]}})
    document = protocol.read(Response(status=200, headers={}, body=body), custom_fields=True)
    names = {name.casefold() for name in sync.custom_fields}
    (row,) = protocol.read_rows(document, names, latest=datetime.now(UTC))
    assert isinstance(row, dict)
    known = {title: {SECRET.casefold(): SECRET} for title in groups}
    customer = customer_from(
        row,
        sync.fields,
        tags=tags_of(row, sync.tags, {}),
        left_out=left_out(row, sync, {}),
        groups=groups_of(row, sync.groups, {}, known),
        language=language_of(row, sync.language),
    )
    write = MemberWrite(
        email_address="amy@finch.org",
        merge_fields=customer.merge_fields,
        tags=customer.tags or (),
        interests=dict.fromkeys(customer.groups.values(), True),
        language=customer.language,
    )
    assert SECRET not in str(member_body(write))
    assert SECRET not in str(customer)
    assert customer.left_out is None
