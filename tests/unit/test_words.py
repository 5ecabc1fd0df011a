"""The text of code, templates and docs uses the words of CONTRIBUTING.md.

The phrases, their replacements and the reasons are data: ``tests/words.yaml``.
"""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORDS = yaml.safe_load((ROOT / "tests/words.yaml").read_text("utf-8"))
PLACES = ("include", "plugins", "dags", "docs", "local", "sandbox", "bench", "deploy", ".ci",
          "README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "docker-compose.yaml")  # fmt: skip
# A past migration is never edited; decisions and a diary are records of their day.
HISTORY = (
    *("include/ml_connector/store/migrations", "docs/decisions"),
    *("bench/diary.md", "bench/leaner_rows.md"),
)
# Read by new users, and by whom an alert wakes: no sentence here needs a second reading.
TUTORIALS = ("README.md", "docs/tutorials", "docs/how-to", "docs/runbook")
LONGEST = 25
WHITE = r"\s+"
INLINE = r"</?(?:a|abbr|b|code|em|i|small|span|strong|time)\b[^>]*>"


class Text(NamedTuple):
    """A comment, a docstring, a string or a paragraph, and the line that it starts on."""

    line: int
    kind: str
    text: str


def stems(pattern):
    """Return letters that each alternative of a phrase contains: what to look for first."""
    pattern = re.sub(r"\[[^]]*\]", " ", pattern)
    while (flat := re.sub(r"\([^()]*\)[?*+]?(\{[^}]*\})?", " ", pattern)) != pattern:
        pattern = flat
    alternatives = re.sub(r"\w[?*]|\\.", " ", pattern).split("|")
    return [max(re.findall(r"[a-z]+", each), key=len) for each in alternatives]


class Phrase(NamedTuple):
    """An entry of the list, ready to search for."""

    pattern: re.Pattern[str]
    stems: list[str]
    allowed: list[re.Pattern[str]]
    use: str


def phrase(entry):
    text = rf"(?<![\w-])(?:{entry['not'].replace(' ', WHITE)})(?![\w-])"
    allowed = [
        re.compile(each.replace(" ", WHITE), re.IGNORECASE) for each in entry.get("unless", ())
    ]
    pattern = re.compile(text, re.IGNORECASE)
    return Phrase(pattern, stems(entry["not"]), allowed, f"{entry['use']} ({entry['why']})")


PHRASES = [phrase(each) for each in WORDS["phrases"]]
# Where a line of a comment, a string or an element ends in the source, its sentence may go on.
JOINTS = re.compile(r"""["']?\s*\n\s*(?:\#:?|--|//|f?["'])?\s*|<[^>]*>""")


def blank(match):
    return "\n" * match.group().count("\n")


SQL = re.compile(
    r"^\s*(--|SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|COPY|MERGE)\b", re.MULTILINE
)


def of_python(source):
    """Yield comments and strings: of a query its comments, of a name without blanks nothing."""
    for line, text in strings(source):
        if SQL.search(text):
            yield from (Text(line + n, kind, found) for n, kind, found in of_queries(text))
        elif re.search(r"\s", text.strip()):
            yield Text(line, "string", re.sub(r"`+[^`\n]*`+", "x", text))
    if "#" in source:
        yield from comments(source)


def strings(source):
    tree = ast.parse(source)
    pieces = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces.update(map(id, node.values))
            parts = (v.value if isinstance(v, ast.Constant) else "x" for v in node.values)
            yield node.lineno, "".join(parts)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in pieces
        ):
            yield node.lineno, node.value


def comments(source):
    """Yield the comments of Python; those on consecutive lines are one."""
    lines: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != lines[-1][0] + 1:
                yield Text(lines[0][0], "comment", "\n".join(text for _, text in lines))
                lines = []
            lines.append((token.start[0], token.string.lstrip("#: ")))
    if lines:
        yield Text(lines[0][0], "comment", "\n".join(text for _, text in lines))


def of_markdown(source):
    source = re.sub(r"^ *```.*?^ *```", blank, source, flags=re.MULTILINE | re.DOTALL)
    source = re.sub(r"`[^`\n]*`", "x", source)
    source = re.sub(r"\]\([^)]*\)", "]", source)
    for number, line in enumerate(source.split("\n"), 1):
        for cell in line.split(" | "):
            yield Text(number, "page", cell)


def of_template(source):
    source = re.sub(INLINE, "", source)
    source = re.sub(r"\{% (for|if|elif) .*?%\}|\.\w+|\"\w+\":", "", source)
    for number, line in enumerate(source.split("\n"), 1):
        yield Text(number, "template", line)


def of_comments(mark):
    def read(source):
        for number, line in enumerate(source.split("\n"), 1):
            if found := re.search(rf"(?:^|\s){mark}+\s(.*)", line):
                yield Text(number, "comment", found.group(1))

    return read


of_queries = of_comments("--")
READERS = {
    ".py": of_python,
    ".md": of_markdown,
    ".html": of_template,
    ".yaml": of_comments("#"),
    ".toml": of_comments("#"),
    ".sh": of_comments("#"),
    "": of_comments("#"),
    ".sql": of_queries,
    ".js": of_comments("//"),
}


def files():
    for place in PLACES:
        path = ROOT / place
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = each.relative_to(ROOT).as_posix()
            code = each.suffix in READERS and not name.startswith(HISTORY)
            if code and each.is_file() and ".min." not in name and "__pycache__" not in name:
                yield name, each


def complaints(name, source, suffix):
    """Yield ``file:line: phrase: write ... (why)`` for each phrase that is not used here."""
    lowered = source.lower()
    near = [each for each in PHRASES if any(stem in lowered for stem in each.stems)]
    joined = JOINTS.sub(" ", source) if near else ""
    near = [each for each in near if each.pattern.search(joined)]
    for line, kind, text in READERS[suffix](source) if near else ():
        for pattern, _, allowed, use in near:
            for found in pattern.finditer(text):
                inside = (m.span() for each in allowed for m in each.finditer(text))
                if not any(a <= found.start() and found.end() <= b for a, b in inside):
                    at = line + text[: found.start()].count("\n")
                    said = " ".join(found.group().split())
                    yield f"{name}:{at}: {said!r} in a {kind}: write {use}"


def sentences(name, source):
    """Yield line and text of each sentence of a page or a template."""
    if name.endswith(".html"):
        source = re.sub(r"\{\{.*?\}\}", lambda m: "x" + blank(m), source, flags=re.DOTALL)
        source = re.sub(r"\{[%#].*?[%#]\}", lambda m: "|" + blank(m), source, flags=re.DOTALL)
        source = re.sub(INLINE, "", source)
        source = re.sub(r"<[^>]*>", lambda m: "|" + blank(m), source)
        blocks = re.finditer(r"[^|]+", source)
        found = [(source.count("\n", 0, b.start()) + 1, b.group()) for b in blocks]
    else:
        found = [(text.line, text.text) for text in of_markdown(source)]
    for line, text in found:
        for sentence in re.split(r"(?<=[.!?:;])[\s\")]", text):
            yield line, " ".join(sentence.split())


@pytest.fixture(scope="module")
def found():
    """Return the complaints by file."""
    return {
        name: list(complaints(name, path.read_text("utf-8"), path.suffix)) for name, path in files()
    }


def test_text_uses_the_words_of_the_glossary(found):
    waiting = tuple(WORDS["not_yet"])
    done = [each for name, lines in found.items() if not name.startswith(waiting) for each in lines]
    assert not done, "\n".join(done)


def test_what_is_not_yet_rewritten_has_something_to_rewrite(found):
    open_ones = {name for name, lines in found.items() if lines}
    idle = [p for p in WORDS["not_yet"] if not any(n.startswith(p) for n in open_ones)]
    assert not idle


def test_tutorials_and_console_have_short_sentences():
    long = [
        f"{name}:{line}: {len(sentence.split())} words: {sentence}"
        for name, path in files()
        if name.startswith(TUTORIALS) or path.suffix == ".html"
        for line, sentence in sentences(name, path.read_text("utf-8"))
        if len(sentence.split()) > LONGEST
    ]
    assert not long, "\n".join(long)


def test_a_function_s_docstring_starts_with_a_verb():
    """Properties are values: theirs may be a noun phrase."""
    suspect = re.compile(rf':\n +r?"""(?:{"|".join(WORDS["not_verbs"])})\b')
    sources = ((name, path.read_text("utf-8")) for name, path in files() if path.suffix == ".py")
    wrong = [
        f"{name}:{node.lineno}: {node.name}: {first} ..."
        for name, source in sources
        if suspect.search(source)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not any("property" in ast.unparse(each) for each in node.decorator_list)
        for first in (ast.get_docstring(node) or "Return").split()[:1]
        if first in WORDS["not_verbs"]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("suffix", "source"),
    [
        (".py", '"""Text.\n\nTells.\n"""\n'),
        (".py", "x = 1\n\n# left as it\n# is, again\n"),
        (".py", 'x = 1\n\nraise ValueError(f"{x} is told")\n'),
        (".md", "# Title\n\n`told` is fine, told is not\n"),
        (".html", "<p>\n\n<b>told</b>\n"),
        (".yaml", "a: told\n\nb: 1  # told\n"),
        (".sql", "SELECT told;\n\n-- told\n"),
    ],
)
def test_a_phrase_is_found_with_its_line_in_every_kind_of_text(suffix, source):
    (complaint,) = complaints("file", source, suffix)
    assert complaint.startswith("file:3: ")
    assert "write " in complaint


def test_an_answer_is_what_a_person_gives():
    assert not list(complaints("file", "Without an answer to the question it ends.", ".md"))
    assert list(complaints("file", "Without an answer of Mailchimp it ends.", ".md"))
