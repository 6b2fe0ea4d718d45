"""Two requests never write one file, whatever the list says."""

from collections.abc import Sequence
from unicodedata import normalize

from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import InvalidRequest
from eventflow.naming import NAME_BYTES_MAX, PART_SUFFIX, PATH_BYTES_MAX, Names, name_from_url, name_problem, safe_name

# Few letters, all of which make trouble with each other, so that most names collide.
LETTERS = ["a", "A", "~", "1", "2", ".", "t", "é", "e\u0301", "ß", "ss", "\u200d", "K", "k", "İ", "i", " "]
COMPONENTS = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4).map("".join) | st.sampled_from(
    ["a~1", "a~1~2", "a~2.t", "x" * 255, "x" * 252 + "~1", "é" * 127, "NUL", "..", f"a{PART_SUFFIX}"]
)
WANTED = st.none() | st.lists(COMPONENTS, min_size=1, max_size=3).map("/".join) | st.text()
URLS = COMPONENTS.map("http://h/{}".format) | st.text()
REQUESTS = st.lists(st.tuples(WANTED, URLS), max_size=40)


def take_all(requests: Sequence[tuple[str | None, str]], *, ignore_case: bool = True) -> list[str | None]:
    """The name of each request, None for one that was refused."""
    names = Names(ignore_case=ignore_case)
    taken: list[str | None] = []
    for number, (wanted, url) in enumerate(requests):
        try:
            taken.append(names.take(number, wanted, url))
        except InvalidRequest:
            taken.append(None)
    return taken


def seen_by_any_disk(name: str) -> str:
    """The name as the least distinguishing of disks sees it; written apart from the module's own way."""
    visible = "".join(letter for letter in name if letter not in "\u200c\u200d\u200e\u200f\ufeff")
    return normalize("NFC", normalize("NFC", normalize("NFD", visible).casefold()).casefold())


@given(REQUESTS)
def test_no_two_requests_have_one_file(requests: list[tuple[str | None, str]]) -> None:
    """No name is another's, on any disk, nor a folder of another."""
    files = [seen_by_any_disk(name) for name in take_all(requests) if name is not None]
    assert len(set(files)) == len(files)
    folders = {file[:place] for file in files for place, letter in enumerate(file) if letter == "/"}
    assert folders.isdisjoint(files)


@given(REQUESTS)
def test_no_two_requests_have_one_file_where_case_counts(requests: list[tuple[str | None, str]]) -> None:
    """The same with names compared letter by letter, for disks that do so."""
    files = [name for name in take_all(requests, ignore_case=False) if name is not None]
    assert len(set(files)) == len(files)
    folders = {file[:place] for file in files for place, letter in enumerate(file) if letter == "/"}
    assert folders.isdisjoint(files)


@given(REQUESTS)
def test_every_name_is_safe(requests: list[tuple[str | None, str]]) -> None:
    """Every name, with a suffix or not, passes the rules for names; none ends like a temporary file."""
    for name in filter(None, take_all(requests)):
        assert name_problem(name) is None
        assert len(name.encode()) <= PATH_BYTES_MAX
        assert not name.casefold().endswith(PART_SUFFIX)


@given(REQUESTS)
def test_names_follow_from_the_input_alone(requests: list[tuple[str | None, str]]) -> None:
    """The same list gives the same names, so that a resume finds its files."""
    assert take_all(requests) == take_all(requests)


@given(REQUESTS)
def test_names_that_were_given_are_kept_when_given_again(requests: list[tuple[str | None, str]]) -> None:
    """A list of the names of an earlier reading gives the same names: a run's copy of its input can be resumed."""
    taken = take_all(requests)
    kept = [(name, url) for name, (_, url) in zip(taken, requests, strict=True) if name is not None]
    assert take_all(kept) == [name for name, _ in kept]


@given(st.text() | COMPONENTS | st.text(min_size=200).map(lambda text: text + ".tar.gz"))
def test_any_text_becomes_a_safe_name(text: str) -> None:
    """Whatever the text, its safe name is one component of at most 255 bytes, and what is safe stays as it is."""
    name = safe_name(text)
    assert name_problem(name) is None
    assert "/" not in name
    assert len(name.encode()) <= NAME_BYTES_MAX
    assert safe_name(name) == name


@given(st.text())
def test_any_url_has_a_name(url: str) -> None:
    """`name_from_url` never raises and always gives a safe name."""
    assert name_problem(name_from_url(url)) is None
