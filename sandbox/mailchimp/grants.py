"""What consents gave: codes, and access tokens without an end."""

import secrets
from dataclasses import dataclass, field

from sandbox.memory import Remembered

CODE_SECONDS = 600


@dataclass
class Grants(Remembered):
    """Codes by value, with redirect address and time, and the tokens that are good."""

    codes: dict[str, tuple[str, float]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def new_code(self, redirect_uri: str, now: float) -> str:
        """Return a code, good once and for ten minutes."""
        code = secrets.token_hex(20)
        self.codes[code] = (redirect_uri, now)
        return code

    def exchange(self, code: str, redirect_uri: str, now: float) -> str | None:
        """Return a token for a code; None if the code is not, or no longer, good."""
        asked, since = self.codes.pop(code, ("", 0.0))
        if not asked or asked != redirect_uri or now > since + CODE_SECONDS:
            return None
        self.tokens.append(secrets.token_hex(16))
        return self.tokens[-1]
