"""The tags of one audience. Names are unique without regard to case; the first spelling stays."""

from dataclasses import dataclass

from sandbox.memory import Remembered

FIRST_ID = 10_001


@dataclass(frozen=True)
class Tag(Remembered):
    """A tag (a static segment, in Mailchimp's own terms)."""

    id: int
    name: str


class Tags(Remembered):
    """All tags that members of the audience have or had."""

    def __init__(self) -> None:
        self._by_key: dict[str, Tag] = {}
        self.by_id: dict[int, Tag] = {}

    def get(self, name: str) -> Tag | None:
        """Find the tag of that name, in any spelling."""
        return self._by_key.get(name.strip().casefold())

    def get_or_create(self, name: str) -> Tag:
        """Find the tag of that name, or create it."""
        found = self.get(name)
        if found is None:
            found = Tag(FIRST_ID + len(self.by_id), name.strip())
            self._by_key[name.strip().casefold()] = found
            self.by_id[found.id] = found
        return found

    def starting_with(self, prefix: str) -> list[Tag]:
        """Find tags by the start of their name, for `tag-search`."""
        return [
            tag for key, tag in self._by_key.items() if key.startswith(prefix.strip().casefold())
        ]
