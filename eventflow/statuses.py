"""What an HTTP status of 400 or more means for who has to act: a table, below everything else.

Statuses and phrases are those of RFC 9110 §15 and of IANA's registry; what to do is ours. Where a status has no line of
its own its class speaks for it (RFC 9110 §15: a client must understand the class of any status).
"""

from http import HTTPStatus

_ASK_LESS = "resume later; to ask for less at once, run with a lower --rate or --concurrency"
_NOT_THERE = "correct the list: the server does not have it"
_FIXES = {
    401: "check the user name and password in the URL",
    402: "check your rights to it",
    403: "check your rights to it, and whether the server lets programs in (--user-agent)",
    404: _NOT_THERE,
    407: "check the proxy between you and the server, and your rights to use it",
    408: _ASK_LESS,
    410: "take it off the list: it is gone for good",
    414: "correct the list: the URL is too long for the server",
    421: "check the host in the URL: the server does not speak for it",
    423: "resume when it is not locked any more",
    425: "resume later",
    426: "find it elsewhere: the server wants another protocol than HTTP/1.1",
    429: _ASK_LESS,
    451: "take it off the list: the server may not give it out, for legal reasons",
    501: "find it elsewhere: the server cannot do what was asked",
    503: _ASK_LESS,
    505: "find it elsewhere: the server does not take HTTP/1.1",
    511: "sign in to the network that you are in, then resume",
}
_CLIENT = "check the URL in the list"
_SERVER = "it is the server's fault: resume when the server is well"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def said(status: int) -> str:
    """The status with its phrase, where it has one.

    >>> said(404), said(599)
    ('404 Not Found', '599')
    """
    return f"{status} {_PHRASES.get(status, '')}".strip()


def what_to_do(status: int) -> str:
    """What somebody should do whose request was answered with it.

    >>> what_to_do(410)
    'take it off the list: it is gone for good'
    """
    return _FIXES.get(status) or (_CLIENT if status < 500 else _SERVER)
