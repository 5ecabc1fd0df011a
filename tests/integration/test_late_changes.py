"""A change may become visible after a read that its own time says was later: it is read next time."""

AMY = "amy@late-changes.com"
AN_HOUR_AGO = {"offset_seconds": -3600}
LATE = {"offset_seconds": -300}
NOW = {"offset_seconds": 0}


def test_a_customer_whose_change_shows_late_is_read_by_the_next_run(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.quickbooks_control("PUT", "clock", LATE)
    company.edit(amy, GivenName="Amelia")
    company.quickbooks_control("PUT", "clock", NOW)
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Amelia"


def test_a_member_whose_opt_out_shows_late_is_read_by_the_next_run(company):
    company.mailchimp_control("PUT", "clock", AN_HOUR_AGO)
    company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "clock", NOW)
    company.sync()
    company.mailchimp_control("PUT", "clock", LATE)
    company.person(AMY, "unsubscribe")
    company.mailchimp_control("PUT", "clock", NOW)
    assert company.sync().contacts == {"unsubscribed": 1}
