"""The code in the documents: what has a prompt is run as a doctest, the rest compiles; links lead somewhere."""

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def python_blocks(path: Path) -> Iterator[tuple[int, str]]:
    """The fenced blocks of Python in a document, each with the number of the line before it."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(?:python|py|pycon)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found[1]


@each_document
def test_python_in_documents_works(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with `>>>` give what they show, from the top of the document to its end; other blocks compile."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    problems: list[str] = []
    for line, block in python_blocks(path):
        if ">>>" not in block:
            compile(block, f"{path.name}:{line}", "exec")
            continue
        test = doctest.DocTestParser().get_doctest(block, names, path.name, str(path), line)
        runner.run(test, out=problems.append, clear_globs=False)
        names.update(test.globs)
    assert not problems, "".join(problems)


@each_document
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    """A link or image whose target is a path names a file that is there."""
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (path.parent / target).exists()]
