"""`ml-connector undo`: previews, waits for approval, undoes."""

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
