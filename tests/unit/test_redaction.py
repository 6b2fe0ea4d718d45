"""What may be a secret is never shown.

The properties are of non-interference: two texts that differ only in a secret look the same, so nothing of it is left.
"""

import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventflow.redaction import has_secrets, redact_command, redact_url

# Whatever a person may type as a password that a client still takes for one: all but what ends the authority.
PASSWORDS = st.text(st.characters(exclude_characters="/\\?#", exclude_categories=["Cs"]), min_size=1)
# A value of a query ends at `&` or `#`.
VALUES = st.text(st.characters(exclude_characters="&#", exclude_categories=["Cs"]), min_size=1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
OPENTELEMETRY_KEYS = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
]
COMMON_KEYS = ["token", "access_token", "api_key", "apikey", "key", "password", "passwd", "secret", "auth"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:pw@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user@host/x", "http://REDACTED@host/x"),
        ("http://:pw@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user:p@ss@host/", "http://REDACTED:REDACTED@host/"),
        ("user:pw@host/x", "REDACTED:REDACTED@host/x"),
        ("//user:pw@host/x", "//REDACTED:REDACTED@host/x"),
        ("http:/user:pw@host/x", "http:/REDACTED:REDACTED@host/x"),
        ("http:user:pw@host/x", "REDACTED:REDACTED@host/x"),
        ("http://user:p/w@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user:p?w@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user:p#w@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user:p\\w@host/x", "http://REDACTED:REDACTED@host/x"),
        ("http://user:pw@[::1/x", "http://REDACTED:REDACTED@[::1/x"),
        ("http://[user:pw@host]/x", "http://REDACTED:REDACTED@host]/x"),
        ("https://https://user:pw@host/x", "https://https://REDACTED:REDACTED@host/x"),
        ("see http://user:pw@host/x", "see http://REDACTED:REDACTED@host/x"),
    ],
)
def test_credentials_are_redacted(url: str, shown: str) -> None:
    """Credentials go, in a URL that is well written and in one that is not."""
    assert redact_url(url) == shown
    assert has_secrets(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a/b.txt?page=2&lang=en",
        "https://unpkg.com/react@18.2.0/index.js",
        "http://localhost:4873/@types/node",
        "http://[::1]:8080/a@b",
        "https://example.org/?pageToken=x&countryCode=de&code=7&monkey=1&keyword=2",
        "https://example.org/a?url=https%3A%2F%2Fexample.com%2Fb%3Fc%3D1",
        "https://example.org/a@b?c=d@e",
        "",
        "@",
        "http://",
        "http://@/",
    ],
)
def test_what_is_no_secret_stays(url: str) -> None:
    """A URL without secrets is shown as it is, also with an `@` in its path."""
    assert redact_url(url) == url
    assert not has_secrets(url)


@pytest.mark.parametrize("key", [*OPENTELEMETRY_KEYS, *COMMON_KEYS])
@pytest.mark.parametrize("change", [str, str.lower, str.upper, lambda key: f"%{ord(key[0]):02X}{key[1:]}"])
def test_secret_parameters_are_redacted(key: str, change: object) -> None:
    """The values of OpenTelemetry's keys and of common ones go, in any case, and also when the key is encoded."""
    key = change(key)  # type: ignore[operator]
    url = f"https://example.org/a?x=1&{key}=s3cret&y=2"
    assert redact_url(url) == f"https://example.org/a?x=1&{key}=REDACTED&y=2"
    assert has_secrets(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/a;jsessionid=s3;x=1?y=2", "http://h/a;jsessionid=REDACTED"),
        ("http://h/?user[password]=s3", "http://h/?user[password]=REDACTED"),
        ("http://h/?a=b?token=s3&c=d", "http://h/?a=b?token=REDACTED&c=d"),
        ("http://h/?u=http%3A%2F%2Fme%3As3%40h2%2F&c=d", "http://h/?u=REDACTED&c=d"),
        ("http://h/?u=http%253A%252F%252Fme%253As3%2540h2&c=d", "http://h/?u=REDACTED&c=d"),
        ("http://h/?u=http://me:s3@h2/&c=d", "http://h/?u=http://REDACTED:REDACTED@h2/&c=d"),
        ("http://h/a?b=c#token=s3", "http://h/a?b=c"),
    ],
)
def test_secrets_in_unusual_places_are_redacted(url: str, shown: str) -> None:
    """Path parameters, brackets, a second `?`, a URL inside a URL and the fragment hide no secret."""
    assert redact_url(url) == shown


def test_a_fragment_is_no_secret() -> None:
    """A fragment is dropped, and alone it does not make a URL secret: such a run can be resumed from its copy."""
    assert redact_url("https://example.org/a#top") == "https://example.org/a"
    assert not has_secrets("https://example.org/a#top")


@given(
    PASSWORDS,
    PASSWORDS,
    st.sampled_from(["http://me:{}@host/a@b?c=d", "me:{}@host/x", "//m:x@{}@[::1", "http:/m:{}@h"]),
)
@example("a", "@", "http://me:{}@host/")
@example("0", ":", "http://me:{}@host/")
def test_nothing_of_a_password_is_shown(one: str, other: str, template: str) -> None:
    """URLs that differ only in the password look the same."""
    assert redact_url(template.format(one)) == redact_url(template.format(other))


@given(WORDS, WORDS)
def test_nothing_of_an_encoded_password_is_shown(one: str, other: str) -> None:
    """A password of any characters, percent-encoded as it should be, leaves no trace."""
    shown = {redact_url(f"http://me:{quote(password, safe='')}@host/a@b") for password in (one, other)}
    assert len(shown) == 1


@given(VALUES, VALUES, st.sampled_from([*OPENTELEMETRY_KEYS, *COMMON_KEYS]))
def test_nothing_of_a_secret_value_is_shown(one: str, other: str, key: str) -> None:
    """URLs that differ only in the value of a secret key look the same."""
    shown = {redact_url(f"https://example.org/a?x=1&{key}={value}&y=2") for value in (one, other)}
    assert len(shown) == 1


@given(st.text() | st.text("htp:/\\@?#&;=%[]a0 ", max_size=60))
def test_redacting_never_raises(text: str) -> None:
    """Whatever the text, there is something to show."""
    assert isinstance(redact_url(text), str)
    assert isinstance(has_secrets(text), bool)
    assert len(redact_command([text, text])) == 2


@given(
    st.sampled_from(["http://h", "https://u:p@h:80", "//u@h", "u:p@h"]),
    st.lists(st.sampled_from(["/a", "/a@b", "/;token=x", "/http://u:p@h", "%2F"])).map("".join),
    st.lists(st.sampled_from(["?", "a=b", "&", "token=x", ";", "u=http%3A%2F%2Fu%3Ap%40h", "#"])).map("".join),
)
def test_redacting_once_is_enough(authority: str, path: str, query: str) -> None:
    """A URL that was redacted has no secrets, and redacting it again changes nothing."""
    shown = redact_url(authority + path + query)
    assert redact_url(shown) == shown
    assert not has_secrets(shown)


@pytest.mark.parametrize(
    "piece", ["//u@x?", "a//", "//u:x", "?a=%25", "?x=//%40", ";", "token=", "%2525", "//u@x//", "=:", "a", "@", "a:"]
)
def test_the_time_is_linear(piece: str) -> None:
    """A long text made to be slow is redacted in moments: a quadratic way would take minutes."""
    text = piece * (300_000 // len(piece)) + "@?@"
    begun = time.perf_counter()
    redact_url(text)
    redact_command([text])
    assert time.perf_counter() - begun < 20


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["curl", "--header", "Authorization: Bearer s3"], ["curl", "--header", "Authorization: REDACTED"]),
        (["curl", "-HX-Api-Key:s3"], ["curl", "-HX-Api-Key: REDACTED"]),
        (["curl", "-H", "X-Other: bearer s3"], ["curl", "-H", "X-Other: bearer REDACTED"]),
        (["curl", "-b", "session=1; sessionid=s3"], ["curl", "-b", "session=1; sessionid=REDACTED"]),
        (["curl", "-H", "Authorization:", "s3"], ["curl", "-H", "Authorization:", "REDACTED"]),
        (["x", "--password", "s3", "file"], ["x", "--password", "REDACTED", "file"]),
        (["x", "--password=s3", "file"], ["x", "--password=REDACTED", "file"]),
        (["env", "AWS_SECRET_ACCESS_KEY=s3", "x"], ["env", "AWS_SECRET_ACCESS_KEY=REDACTED", "x"]),
        (["curl", "-u", "me:s3"], ["curl", "-u", "REDACTED"]),
        (["curl", "-ume:s3"], ["curl", "-uREDACTED"]),
        (["curl", "--user=me:s3"], ["curl", "--user=REDACTED"]),
        (["curl", "--proxy=http://me:s3@h:80/"], ["curl", "--proxy=http://REDACTED:REDACTED@h:80/"]),
        (["curl", "https://h/?token=s3&v=2"], ["curl", "https://h/?token=REDACTED&v=2"]),
        (["scp", "me:s3@host/x"], ["scp", "REDACTED:REDACTED@host/x"]),
        (
            ["sh", "-c", "curl http://me:s3@h/ -H 'Cookie: s3'"],
            ["sh", "-c", "curl http://REDACTED:REDACTED@h/ -H 'Cookie: REDACTED"],
        ),
        (["x", '{"password": "s3"}'], ["x", '{"password": REDACTED']),
        (["run", "--exec", "upload --token s3 a"], ["run", "--exec", "upload --token REDACTED a"]),
        (["--exec=curl -u me:s3 a"], ["--exec=curl -u REDACTED a"]),
        (["sh", "-c", "sh -c 'upload --password s3'"], ["sh", "-c", "sh -c 'upload --password REDACTED'"]),
        (["sh", "-c", "upload --password s3 it's"], ["sh", "-c", "upload --password REDACTED 'it'\"'\"'s'"]),
    ],
)
def test_secrets_of_a_command_are_redacted(argv: list[str], shown: list[str]) -> None:
    """Headers, options, variables, logins and URLs of a command line lose their secrets."""
    assert redact_command(argv) == tuple(shown)


def test_the_rest_of_a_command_stays() -> None:
    """A command without secrets is recorded as it was given, placeholders, logins of ssh and comments included."""
    argv = [
        "sh",
        "-c",
        "gzip -k {path} # twice",
        "user@host:path",
        "-u",
        "me",
        "--user-agent=a: b",
        "a=b",
        "https://h/a",
    ]
    assert redact_command(argv) == tuple(argv)
    assert redact_command([]) == ()


@given(
    WORDS,
    WORDS,
    st.sampled_from(
        [
            ["--password={}"],
            ["--api-key", "{}"],
            ["Authorization: {}"],
            ["Authorization:", "{}"],
            ["TOKEN={} x"],
            ["-u", "me:{}"],
            ["-ume:{}"],
            ['{{"secret":"{}"}}'],
        ]
    ),
)
def test_nothing_of_a_commands_secret_is_shown(one: str, other: str, arguments: list[str]) -> None:
    """Commands that differ only in a secret look the same."""
    shown = {redact_command([argument.format(secret) for argument in arguments]) for secret in (one, other)}
    assert len(shown) == 1
