"""Lint: what proves a sender is compared in constant time, with `hmac.compare_digest` only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("include/ml_connector", "plugins/ml_connector_airflow")
PROOFS = {"secret", "secrets", "signature", "signatures", "hmac", "mac", "password", "passwords",
          "verifier", "cookie", "cookies", "csrf", "state_cookie"}  # fmt: skip
"""Words of names that hold a proof. A name is split at underscores."""
TOKENS = {"token", "tokens", "digest"}
"""Words that name a proof in code that answers a request. Elsewhere they are ours or the vendor's:
QuickBooks' SyncToken, a page's token, the digest of an audit row."""
ANSWERING = ("console", "receiver", "mounts", "webhooks.py", "consent.py")
ALLOWED = {
    "ml_connector/audit/chain.py": "audit verify reads rows of our database; nobody sends a guess",
    "ml_connector/audit/rewrites.py": "as audit/chain.py",
    "ml_connector/webhooks/registration.py": "both secrets are ours: one is read from Mailchimp's API",
}
"""Files whose comparisons answer no stranger, each with the reason."""


def words(node: ast.expr) -> set[str]:
    """The words of what an expression is named: itself, its attribute, its key, its function."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return set(name.lower().strip("_").split("_"))
        case ast.Call(func=called, args=arguments):
            plain = {"get", "encode", "decode", "strip", "lower", "hex"}
            base = called.value if isinstance(called, ast.Attribute) else called
            given = words(called) & plain and arguments[:1]
            return words(called) | words(base) | (words(arguments[0]) if given else set())
        case ast.Subscript(value=value, slice=key):
            return words(value) | words(key)
    return set()


def compared(source: str, proofs: set[str]) -> Iterator[str]:
    """The comparisons of proofs by ``==``, ``!=``, ``in``; with a literal they are no proof."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            plain = any(isinstance(each, ast.Constant) for each in (left, right))
            inside = isinstance(operator, ast.In | ast.NotIn)
            by_time = isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn)
            if by_time and not (plain and not inside) and (words(left) | words(right)) & proofs:
                yield f"{node.lineno}: {ast.unparse(node)}"


def modules() -> Iterator[Path]:
    for folder in PRODUCT:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_secrets_and_signatures_are_compared_by_compare_digest_only():
    wrong = []
    for path in modules():
        place = str(path.relative_to(ROOT))
        answers = any(part in ANSWERING for part in path.parts)
        proofs = PROOFS | TOKENS if answers else PROOFS
        wrong += [f"{place}:{each}" for each in compared(path.read_text("utf-8"), proofs)]
    assert [each for each in wrong if each.partition(":")[0].partition("/")[2] not in ALLOWED] == []


@pytest.mark.parametrize(
    "planted",
    [
        "return given == secret",
        "return signature(body, token) != header",
        "if given in secrets: pass",
        "if given not in key.signing_secrets: pass",
        "ok = request.cookies.get('x') == state",
        "ok = headers['x-mailchimp-signature'.strip()] == mark or mac == mark",
        "ok = given.encode() == self._secret.encode()",
        "ok = document['verifier_token'] == given",
    ],
)
def test_the_rule_catches_a_comparison_that_leaks_by_its_time(planted):
    source = f"def check():\n    {planted}"
    assert list(compared(source, PROOFS | TOKENS)) != []


@pytest.mark.parametrize(
    "right",
    [
        "return hmac.compare_digest(secret.encode(), given)",
        "if secret == '': pass",
        "if x == y: z()",
    ],
)
def test_the_rule_lets_what_is_right_pass(right):
    assert list(compared(f"def check():\n    {right}", PROOFS | TOKENS)) == []
