"""Text as HTML: what comes from elsewhere is escaped, always.

Invariants:
    text never becomes an element, and JSON never ends the one that it is in.
"""

import html
import json


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | bool) -> Html:
    """An element. Text in it and in its attributes is escaped, `Html` is not; `class_` is `class`, `data_x` `data-x`.

    >>> print(element("p", "a < b", element("b", "!"), class_="x"))
    <p class="x">a &lt; b<b>!</b></p>
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: str) -> Html:
    """Pieces of content, one after the other: text escaped, `Html` as it is."""
    return Html("".join(piece if isinstance(piece, Html) else html.escape(piece) for piece in content))


def json_in_html(value: object) -> str:
    r"""JSON that can stand in a `<script>`: nothing in it looks like a tag.

    >>> json_in_html("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
