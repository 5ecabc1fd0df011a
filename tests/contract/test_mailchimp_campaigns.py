"""The Mailchimp mock server: campaigns, what recipients did with them, and the contract of both."""

import pytest
import requests

from tests.contract.test_mailchimp_fixtures import KEY, LIST, official_client, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA, BEN, EVA = "ada@abel.net", "ben@baker.net", "eva@evans.net"
JANUARY, MARCH = "2026-01-01T08:00:00+00:00", "2026-03-01T08:00:00+00:00"


@pytest.fixture
def reports(client):
    return client.reports


@pytest.fixture
def sent(remote):
    """A campaign of January to three members."""
    for email in (ADA, BEN, EVA):
        remote.seed(email)
    return remote.send_campaign(subject="Spring sale", send_time=JANUARY)


def by_address(answer, name="emails"):
    return {each["email_address"]: each for each in answer[name]}


def actions(answer):
    return {
        email: [entry["action"] for entry in each["activity"]]
        for email, each in by_address(answer).items()
    }


def test_campaigns_are_listed_with_when_and_to_how_many_they_were_sent(client, sent):
    listed = client.campaigns.list()
    [campaign] = listed["campaigns"]
    assert (campaign["id"], campaign["status"], listed["total_items"]) == (sent, "sent", 1)
    assert (campaign["send_time"], campaign["emails_sent"]) == (JANUARY, 3)
    assert campaign["settings"]["subject_line"] == "Spring sale"
    assert campaign["recipients"]["list_id"] == LIST


def test_campaigns_are_filtered_by_audience_status_and_time(remote, client, sent):
    later = remote.send_campaign(title="Later", send_time=MARCH)
    planned = remote.send_campaign(title="Planned", send_time="2099-01-01T00:00:00Z")

    def ids(**query):
        return [each["id"] for each in client.campaigns.list(**query)["campaigns"]]

    assert ids(status="sent", list_id=LIST) == [sent, later]
    assert ids(status="schedule") == [planned]
    assert ids(list_id="another") == []
    assert ids(since_send_time=JANUARY, before_send_time="2026-04-01T00:00:00Z") == [later]
    assert ids(before_send_time=MARCH) == [sent]
    assert ids(sort_field="send_time", sort_dir="DESC") == [planned, later, sent]


def test_ten_campaigns_are_listed_unless_more_are_asked_for_and_fields_cut_them(remote, client):
    for number in range(12):
        remote.send_campaign(title=f"No. {number}")
    listed = client.campaigns.list()
    assert (len(listed["campaigns"]), listed["total_items"]) == (10, 12)
    page = client.campaigns.list(offset=10, fields=["campaigns.settings.title"])
    titles = [each["settings"]["title"] for each in page["campaigns"]]
    assert (titles, list(page)) == (["No. 10", "No. 11"], ["campaigns"])


def test_without_since_every_recipient_is_reported_also_without_activity(remote, reports, sent):
    remote.react(sent, ADA, "open", timestamp=MARCH)
    remote.react(sent, ADA, "click", timestamp=MARCH, url="https://sample-company.com/sale")
    answer = reports.get_email_activity_for_campaign(sent)
    assert (answer["campaign_id"], answer["total_items"]) == (sent, 3)
    assert actions(answer) == {ADA: ["open", "click"], BEN: [], EVA: []}
    opened, click = by_address(answer)[ADA]["activity"]
    assert (click["url"], click["timestamp"]) == ("https://sample-company.com/sale", MARCH)
    assert (opened["ip"], "url" in opened, "type" in opened) == ("198.51.100.7", False, False)


def test_since_leaves_what_happened_after_it_and_who_did_it(remote, reports, sent):
    remote.react(sent, ADA, "open", timestamp="2026-02-01T00:00:00Z")
    remote.react(sent, BEN, "open", timestamp="2026-02-01T00:00:00Z")
    remote.react(sent, BEN, "click", timestamp="2026-02-01T00:00:01Z")

    def since(moment):
        return reports.get_email_activity_for_campaign(sent, since=moment)

    answer = since("2026-02-01T00:00:00Z")
    assert (actions(answer), answer["total_items"]) == ({BEN: ["click"]}, 1)
    assert actions(since("2026-01-31T23:59:59Z")) == {ADA: ["open"], BEN: ["open", "click"]}
    assert actions(since(MARCH)) == {}


def test_pages_of_activity_cover_every_recipient_once(remote, reports):
    remote.generate(25)
    sent = remote.send_campaign()
    pages = [
        list(by_address(reports.get_email_activity_for_campaign(sent, offset=offset)))
        for offset in (0, 10, 20, 30)
    ]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert len({email for page in pages for email in page}) == 25
    fields = ["emails.email_id", "emails.activity.action"]
    cut = reports.get_email_activity_for_campaign(sent, count=1, fields=fields)
    assert cut == {"emails": [{"email_id": cut["emails"][0]["email_id"], "activity": []}]}


def test_of_one_member_a_thousand_opens_are_kept(remote, reports, sent):
    opened = {"email_address": ADA, "action": "open"}
    url = f"{remote.url}/_sandbox/campaigns/{sent}/activity"
    assert requests.post(url, json={"activity": [opened] * 1005}).status_code == 201
    remote.react(sent, ADA, "click")
    kept = actions(reports.get_email_activity_for_campaign(sent))[ADA]
    assert (kept.count("open"), kept.count("click")) == (1000, 1)


@pytest.mark.parametrize(("kind", "status"), [("hard", "cleaned"), ("soft", "subscribed")])
def test_only_a_hard_bounce_cleans_the_member(remote, lists, reports, sent, kind, status):
    remote.react(sent, ADA, "bounce", type=kind)
    [bounce] = by_address(reports.get_email_activity_for_campaign(sent))[ADA]["activity"]
    assert (bounce["action"], bounce["type"]) == ("bounce", kind)
    assert lists.get_list_member(LIST, ADA)["status"] == status
    recipients = by_address(reports.get_campaign_recipients(sent), "sent_to")
    assert [recipients[each]["status"] for each in (ADA, BEN)] == [kind, "sent"]


def test_opens_and_clicks_do_not_move_last_changed_but_a_hard_bounce_does(remote, lists, sent):
    def changed():
        return lists.get_list_member(LIST, ADA)["last_changed"]

    before = changed()
    remote.clock(60)
    remote.react(sent, ADA, "open")
    remote.react(sent, ADA, "click")
    remote.react(sent, ADA, "bounce", type="soft")
    assert changed() == before
    remote.react(sent, ADA, "bounce", type="hard")
    assert changed() > before


def test_someone_who_leaves_through_a_campaign_is_reported_with_the_reason(remote, reports, sent):
    remote.act(ADA, "unsubscribe", campaign_id=sent, reason="Too many mails")
    answer = reports.get_unsubscribed_list_for_campaign(sent)
    [left] = answer["unsubscribes"]
    assert (left["email_address"], left["reason"]) == (ADA, "Too many mails")
    assert remote.member(ADA)["status"] == "unsubscribed"
    assert remote.member(ADA)["compliance"]


def test_a_new_address_keeps_its_owner_in_the_reports_and_the_deleted_are_left_out(
    remote, lists, reports, sent
):
    remote.react(sent, ADA, "open")
    before = lists.get_list_member(LIST, ADA)
    remote.clock(60)
    remote.act(ADA, "upemail", email_address="ada@fox.net")
    remote.act(BEN, "forget")
    after = lists.get_list_member(LIST, "ada@fox.net")
    assert after["id"] != before["id"]
    assert [after[key] for key in ("contact_id", "web_id")] == [
        before[key] for key in ("contact_id", "web_id")
    ]
    assert after["last_changed"] > before["last_changed"]
    assert problem(lambda: lists.get_list_member(LIST, before["id"]))["status"] == 404
    answer = reports.get_email_activity_for_campaign(sent)
    assert actions(answer) == {"ada@fox.net": ["open"], EVA: []}
    assert by_address(answer)["ada@fox.net"]["email_id"] == after["id"]


def test_a_campaign_that_is_unknown_or_not_sent_yet_has_no_report(remote, reports):
    planned = remote.send_campaign(send_time="2099-01-01T00:00:00Z")
    for campaign_id in ("0123456789", planned):
        refused = problem(lambda each=campaign_id: reports.get_email_activity_for_campaign(each))
        assert (refused["status"], refused["title"]) == (404, "Resource Not Found")


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"offset": -1}])
def test_a_malformed_query_is_refused(reports, sent, query):
    refused = problem(lambda: reports.get_email_activity_for_campaign(sent, **query))
    assert (refused["status"], refused["errors"][0]["field"]) == (400, next(iter(query)))


def test_the_same_seed_lets_the_same_shares_of_recipients_react(remote, client, reports):
    remote.generate(1000)
    shares = {"opens": 0.4, "clicks": 0.1, "soft_bounces": 0.05, "hard_bounces": 0.02}
    answers = []
    for _ in range(2):
        remote.reset()
        remote.generate(1000)
        sent = remote.send_campaign(send_time=JANUARY)
        counts = remote.simulate(sent, seed=7, **shares)
        answers.append(reports.get_email_activity_for_campaign(sent, count=1000))
    assert [email["activity"] for email in answers[0]["emails"]] == [
        email["activity"] for email in answers[1]["emails"]
    ]
    assert counts["opens"] == pytest.approx(400, abs=60)
    assert counts["clicks"] == pytest.approx(100, abs=40)
    assert remote.summary()["members"]["cleaned"] == counts["hard_bounces"] > 0
    summary = client.campaigns.list()["campaigns"][0]["report_summary"]
    assert summary["unique_opens"] == counts["opens"]
    since = reports.get_email_activity_for_campaign(sent, since=JANUARY)
    assert since["total_items"] == sum(counts.values()) - counts["clicks"]


def test_an_automation_is_in_the_reports_only_and_gains_recipients(remote, client, reports, sent):
    journey = remote.send_campaign(type="automation", recipients=[ADA], send_time=JANUARY)
    remote.react(journey, ADA, "open")
    listed = {each["id"]: each for each in reports.get_all_campaign_reports()["reports"]}
    assert {each["type"] for each in listed.values()} == {"regular", "automation"}
    assert (listed[journey]["emails_sent"], listed[journey]["opens"]["opens_total"]) == (1, 1)
    assert [each["id"] for each in client.campaigns.list()["campaigns"]] == [sent]
    url = f"{remote.url}/_sandbox/campaigns/{journey}/recipients"
    assert requests.post(url, json={"recipients": [BEN, ADA]}).json() == {"recipients": 2}
    assert actions(reports.get_email_activity_for_campaign(journey)) == {ADA: ["open"], BEN: []}
    stats = remote.member(ADA)["stats"]
    assert (stats["avg_open_rate"], stats["avg_click_rate"]) == (0.5, 0)


def test_a_list_with_one_wrong_activity_records_nothing(remote, reports, sent):
    remote.seed("new@fox.net")
    url = f"{remote.url}/_sandbox/campaigns/{sent}/activity"
    opened = {"email_address": ADA, "action": "open"}
    for wrong in (
        {"email_address": ADA, "action": "read"},
        {"email_address": ADA, "action": "bounce"},
        {"email_address": "new@fox.net", "action": "open"},
        {"email_address": "nobody@abel.net", "action": "open"},
    ):
        answer = requests.post(url, json={"activity": [opened, wrong]})
        assert answer.status_code in (400, 404)
    assert actions(reports.get_email_activity_for_campaign(sent))[ADA] == []


def test_campaigns_and_reports_keep_the_contract(remote, prism_proxy, sent):
    remote.react(sent, ADA, "open")
    remote.react(sent, ADA, "click")
    remote.react(sent, BEN, "bounce", type="hard")
    remote.act(EVA, "unsubscribe", campaign_id=sent)
    client = official_client(prism_proxy.url)
    before = prism_proxy.violations()
    client.campaigns.list(since_send_time="2020-01-01T00:00:00Z", status="sent", list_id=LIST)
    client.campaigns.list(fields=["campaigns.id"], sort_field="send_time", sort_dir="ASC")
    since = {"since": "2020-01-01T00:00:00Z", "count": 1000}
    assert client.reports.get_email_activity_for_campaign(sent, **since)["total_items"] == 2
    client.reports.get_email_activity_for_campaign(sent)
    assert client.reports.get_all_campaign_reports()["total_items"] == 1
    client.reports.get_campaign_recipients(sent)
    client.reports.get_unsubscribed_list_for_campaign(sent)
    unknown = requests.get(f"{prism_proxy.url}/3.0/reports/x/email-activity", auth=("x", KEY))
    assert (unknown.status_code, "sl-violations" in unknown.headers) == (404, False)
    assert prism_proxy.violations() == before
