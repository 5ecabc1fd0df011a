"""Money, tax and terms never leave QuickBooks: row A47 of docs/behaviour.md."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.customer_paths import PATHS
from ml_connector.errors import SettingsError
from ml_connector.quickbooks import protocol
from ml_connector.settings import load_syncs
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


@given(
    kept=st.dictionaries(st.sampled_from([path.partition(".")[0] for path in SENT_ON]), st.text()),
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
    assert protocol.read_rows(document) == [kept]
    assert protocol.read_changes(document) == [kept]
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
    body = {"QueryResponse": {"Customer": [{"Id": "1", "CustomField": [*fields, 7, None]}]}}
    response = Response(status=200, headers={}, body=msgspec.json.encode(body))
    document = protocol.read(response, custom_fields=asked)
    row = protocol.read_rows(document, wanted)[0]
    expected = [each for each in fields if str(each["Name"]).strip().casefold() in wanted]
    assert row.get("CustomField", []) == (expected if asked and wanted else [])
    assert protocol.read_rows(document)[0] == {"Id": "1"}
    if not asked:
        assert "CustomField" not in document["QueryResponse"]["Customer"][0]
