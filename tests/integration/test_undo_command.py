"""`ml-connector undo`: previews, waits for approval, undoes."""

from sqlalchemy import text

from tests.integration.undoing import last_run


def test_a_run_is_undone_from_the_command_line(company, run):
    ids = [company.customer(f"C{n}", f"c{n}@undo-mail.net", FamilyName=f"L{n}") for n in range(30)]
    company.sync()
    first = last_run(company)
    company.edit(ids[0], GivenName="Wrong")
    company.sync()
    wrong = last_run(company)
    code, said = run("undo", "--run", wrong, "--dry-run")
    assert code == 0, said
    assert "1 update undo: preview" in said
    assert company.fields("c0@undo-mail.net")["FNAME"] == "Wrong"
    code, said = run("undo", "--run", wrong)
    assert code == 0, said
    assert "1 update undo: applied" in said
    assert company.fields("c0@undo-mail.net")["FNAME"] == "C0"
    code, said = run("undo", "--run", first)
    assert code == 3, said
    assert "--approve" in said
    assert set(company.statuses().values()) == {"subscribed"}
    code, said = run("undo", "--run", first, "--approve")
    assert code == 0, said
    assert set(company.statuses().values()) == {"archived"}, "c0 too: it is as that run left it"
    code, said = run("undo", "--run", "nothing")
    assert code == 2, said
    assert "can be undone" in said


def test_a_defect_in_an_undo_shows_no_person_and_fails_its_plan(company, run):
    company.customer("Amy", "amy@undo-mail.net")
    company.sync()
    with company.database.begin() as connection:
        connection.execute(
            text("""CREATE FUNCTION ml_connector.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN RAISE EXCEPTION 'amy@undo-mail.net'; END $$""")
        )
        connection.execute(
            text("""CREATE TRIGGER refuse BEFORE INSERT ON ml_connector.changes
                    FOR EACH ROW EXECUTE FUNCTION ml_connector.refuse()""")
        )
    code, said = run("undo", "--run", last_run(company))
    assert code == 1, said
    assert "a defect in ml-connector: " in said
    assert "undo-mail" not in said
    with company.database.begin() as connection:
        plan = connection.execute(
            text("SELECT kind, state, error FROM ml_connector.plans ORDER BY id DESC LIMIT 1")
        ).one()
    assert (plan.kind, plan.state) == ("undo", "failed")
    assert plan.error.startswith("a defect in ml-connector: ")
    assert "undo-mail" not in plan.error
    with company.database.begin() as connection:
        connection.execute(text("DROP FUNCTION ml_connector.refuse CASCADE"))
