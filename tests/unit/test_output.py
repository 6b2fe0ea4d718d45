from io import StringIO

import pytest
from rich.console import Console

from eventflow.cli.output import table


@pytest.mark.parametrize("text", ["[/old]", r"\[/old]", "[red]", ":warning:", "[link=x"])
def test_what_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    """In cells and in headers, which can be the user's: a label, the name of a file."""
    console = Console(file=StringIO(), width=80)
    console.print(table([text, f"a {text}"], [[f"b {text}", f"c {text}"]], right=[text]))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert shown.count(text) == 4
