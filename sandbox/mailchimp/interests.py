"""An audience's groups: interest categories and their interests."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from sandbox.mailchimp import problems
from sandbox.memory import Remembered

TYPES = ("checkboxes", "dropdown", "radio", "hidden")


@dataclass
class Category(Remembered):
    """One category; `interests` are names by id."""

    id: str
    title: str
    type: str = "checkboxes"
    interests: dict[str, str] = field(default_factory=dict)

    def render(self, list_id: str) -> dict[str, Any]:
        """Render the category as the API does."""
        return {
            "list_id": list_id,
            "id": self.id,
            "title": self.title,
            "display_order": 0,
            "type": self.type,
            "_links": [],
        }

    def render_interests(self, list_id: str) -> list[dict[str, Any]]:
        """Render the interests as the API does."""
        return [
            {
                "category_id": self.id,
                "list_id": list_id,
                "id": interest_id,
                "name": name,
                "subscriber_count": "0",
                "display_order": number,
                "_links": [],
            }
            for number, (interest_id, name) in enumerate(self.interests.items(), 1)
        ]


class Interests(Remembered):
    """The categories of one audience, by id."""

    def __init__(self) -> None:
        self.categories: dict[str, Category] = {}
        self._made = 0

    def ids(self) -> list[str]:
        """Return the ids of all interests."""
        return [each for category in self.categories.values() for each in category.interests]

    def replace(self, titles: dict[str, list[str]]) -> None:
        """Replace all categories; those that keep their title and names keep their ids."""
        known = {each.title: each for each in self.categories.values()}
        self.categories = {}
        for title, names in titles.items():
            category = known.get(title) or Category(self._new_id(), title)
            ids = {name: interest_id for interest_id, name in category.interests.items()}
            category.interests = {ids.get(name) or self._new_id(): name for name in names}
            self.categories[category.id] = category

    def find(self, category_id: str) -> Category:
        """Find a category; 404 if there is none."""
        found = self.categories.get(category_id)
        if found is None:
            raise problems.not_found()
        return found

    def add(self, body: dict[str, Any]) -> Category:
        """Make a category."""
        title, kind = str(body.get("title") or ""), body.get("type")
        if not title or kind not in TYPES:
            raise problems.schema([{"field": "type", "message": "title and type are required"}])
        if title in {each.title for each in self.categories.values()}:
            raise problems.invalid(f'Cannot add "{title}" because it already exists on the list.')
        category = Category(self._new_id(), title, str(kind))
        self.categories[category.id] = category
        return category

    def add_interest(self, category: Category, body: dict[str, Any]) -> dict[str, Any]:
        """Make an interest."""
        name = str(body.get("name") or "")
        if not name:
            raise problems.schema([{"field": "name", "message": "This value should not be blank."}])
        if name in category.interests.values():
            raise problems.invalid(f'Cannot add "{name}" because it already exists on the list.')
        category.interests[self._new_id()] = name
        return category.render_interests("")[-1]

    def take(self, stored: frozenset[str], sent: Any) -> frozenset[str]:
        """Return a member's interests after writing `sent`.

        Raises:
            ProblemError: 400 for an interest that there is not.
        """
        known, taken = set(self.ids()), set(stored)
        for interest_id, on in (sent or {}).items():
            if interest_id not in known:
                raise problems.invalid(f"Invalid interest ID: '{interest_id}'.")
            (taken.add if on else taken.discard)(interest_id)
        return frozenset(taken)

    def render(self, taken: frozenset[str]) -> dict[str, bool]:
        """Render a member's interests: all there are, on or off."""
        return {each: each in taken for each in self.ids()}

    def _new_id(self) -> str:
        self._made += 1
        return hashlib.md5(f"interest {self._made}".encode(), usedforsecurity=False).hexdigest()[
            :10
        ]
