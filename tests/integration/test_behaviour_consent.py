"""Consent never rises by our hand, whatever the bookkeeper, people and marketers do in between."""

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ml_connector.errors import ConsentRaised

RANK = {"subscribed": 3, "pending": 2, "transactional": 1}
PEOPLE = 3
ADDRESSES = 3

person = st.integers(0, PEOPLE - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("move"), person, st.integers(0, ADDRESSES)),
        st.tuples(st.sampled_from(["leave", "return", "rename"]), person),
        st.tuples(
            st.sampled_from(["unsubscribe", "opt_out_by_marketer", "clean", "archive", "sign_up"]),
            person,
        ),
        st.tuples(
            st.just("sync"), st.sampled_from(["before_push", "before_archive", None]), person
        ),
    ),
    min_size=4,
    max_size=12,
)


def address(who, number):
    return f"p{who}a{number}@finch.org"


class World:
    """Three people, each with a few addresses of their own and one customer in QuickBooks."""

    def __init__(self, company):
        self.company = company
        self.at = dict.fromkeys(range(PEOPLE), 0)
        self.ids = [company.customer(f"P{who}", address(who, 0)) for who in self.at]
        self.names = 0
        company.sync()

    def do(self, step):
        action, *rest = step
        if action == "sync":
            self.sync(*rest)
        else:
            getattr(self, action)(*rest)

    def sync(self, moment, who):
        meanwhile = {} if moment is None else {moment: lambda: self.unsubscribe(who)}
        try:
            self.company.sync(**meanwhile)
        except ConsentRaised:
            self.company.sync()

    def move(self, who, number):
        self.at[who] = number
        self.company.move(self.ids[who], address(who, number) if number < ADDRESSES else None)

    def leave(self, who):
        self.company.edit(self.ids[who], Active=False)

    def return_(self, who):
        self.company.edit(self.ids[who], Active=True)

    def rename(self, who):
        self.names += 1
        self.company.edit(self.ids[who], GivenName=f"Name {self.names}")

    def _act(self, who, action, **body):
        email = address(who, self.at[who])
        if self.company.statuses().get(email, "archived") != "archived":
            self.company.person(email, action, **body)

    def unsubscribe(self, who):
        self._act(who, "unsubscribe")

    def opt_out_by_marketer(self, who):
        self._act(who, "unsubscribe", by="marketer")

    def clean(self, who):
        self._act(who, "clean")

    def archive(self, who):
        if self.company.statuses().get(address(who, self.at[who])) in {
            "subscribed",
            "unsubscribed",
        }:
            self._act(who, "archive")

    def sign_up(self, who):
        self._act(who, "subscribe")


setattr(World, "return", World.return_)


def raised(member):
    """Changes by the API to more than the member last had by anyone's wish.

    An archive by the API is no wish, so that a restore may undo it; one by a marketer is.
    """
    wished, found = None, []
    for change in member["status_changes"]:
        after = RANK.get(change["after"], 0)
        if change["by"] == "api":
            if change["after"] == "archived":
                continue
            if wished is not None and after > wished:
                found.append(change)
        wished = after
    return found


@settings(
    max_examples=settings().max_examples // 10,  # each is a world of its own, about a second
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(steps=steps, contract=st.sampled_from(["current", "status_required"]))
def test_no_write_of_ours_raises_a_status_after_an_opt_out(fresh_company, steps, contract):
    with fresh_company() as company:
        company.mailchimp_control("PUT", "settings", {"batch_contract": contract})
        world = World(company)
        for step in steps:
            world.do(step)
        company.sync()
        assert {email: raised(member) for email, member in company.members().items()} == {
            email: [] for email in company.members()
        }


@settings(
    max_examples=settings().max_examples // 10,  # each is a world of its own, about a second
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    before=st.lists(st.sampled_from(["move", "leave", "sync", "rename"]), max_size=3),
    opt_out=st.sampled_from(["unsubscribe", "opt_out_by_marketer", "archive"]),
    after=st.lists(
        st.tuples(
            st.one_of(
                st.tuples(st.just("move"), st.just(0), st.integers(0, ADDRESSES)),
                st.tuples(st.sampled_from(["leave", "return"]), st.just(0)),
            ),
            st.booleans(),
        ),
        min_size=2,
        max_size=6,
    ),
    contract=st.sampled_from(["current", "status_required"]),
)
@example(
    before=[],
    opt_out="opt_out_by_marketer",
    after=[(("leave", 0), True), (("return", 0), True)],
    contract="current",
)
def test_after_an_opt_out_nobody_is_mailed_at_any_address(
    fresh_company, before, opt_out, after, contract
):
    with fresh_company() as company:
        company.mailchimp_control("PUT", "settings", {"batch_contract": contract})
        world = World(company)
        for action in before:
            extra = {"move": (0, 1), "sync": (None, 0)}.get(action, (0,))
            world.do((action, *extra))
        world.do(("return", 0))
        world.do(("move", 0, 1))
        company.sync()
        getattr(world, opt_out)(0)
        company.sync()
        for step, seen in after:
            world.do(step)
            if seen:
                company.sync()
        world.do(("return", 0))
        company.sync()
        mine = {e: s for e, s in company.statuses().items() if e.startswith("p0")}
        assert set(mine.values()) <= {"unsubscribed", "archived"}
