"""Files of /proc, read so that neither the interpreter's other threads nor the reader wait for one another.

Every system call made through Python gives the interpreter lock away and gets it back up to 5 ms later (the switch
interval, for each thread that wants it). Most files of /proc cost microseconds and never wait for their process: they
are read with the lock held (`read_held`). Those that cost milliseconds, or may wait for the process's memory map, are
read without it (`read_released`).
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator

_BUFFER_BYTES = 8192
_AT_FDCWD = -100
_STATX_SIZE = 0x200
_STATX_BYTES = 256
_STATX_SIZE_OFFSET = 40

_BlockCall = Callable[[int, ctypes.Array[ctypes.c_char], int], int]
libc = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL it keeps the interpreter lock during the call
libc.open.argtypes = [ctypes.c_char_p, ctypes.c_int]
libc.read.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
libc.read.restype = ctypes.c_ssize_t
libc.waitid.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_int]
libc.syscall.argtypes = [ctypes.c_long] * 6
libc.syscall.restype = ctypes.c_long
_GETDENTS = getattr(libc, "getdents64", None)
if _GETDENTS is not None:
    _GETDENTS.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    _GETDENTS.restype = ctypes.c_ssize_t
_STATX = getattr(libc, "statx", None)
if _STATX is not None:
    _STATX.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]


def read_held(path: str) -> bytes:
    """The file, without giving the interpreter lock away: for files of /proc that never wait for their process."""
    with _opened(path) as descriptor:
        return b"".join(_blocks(path, descriptor, libc.read))


def list_held(path: str) -> list[str]:
    """The names in the folder, in the same way: os.listdir gives the lock away for each name."""
    if _GETDENTS is None:
        return [entry.name for entry in os.scandir(path)]
    with _opened(path) as descriptor:
        return parse_directory(b"".join(_blocks(path, descriptor, _GETDENTS)))


def read_released(path: str) -> bytes:
    """The first 8 KiB of a file that may cost milliseconds or wait for its process: the lock is free meanwhile."""
    with _opened(path) as descriptor:
        return os.read(descriptor, _BUFFER_BYTES)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = libc.open(path.encode(), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        raise _os_error(path)
    try:
        yield descriptor
    finally:
        libc.close(descriptor)


def _blocks(path: str, descriptor: int, call: _BlockCall) -> Iterator[bytes]:
    """What `call` (read or getdents64) gives until it gives nothing."""
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    while count := call(descriptor, buffer, _BUFFER_BYTES):
        if count < 0:
            raise _os_error(path)
        yield ctypes.string_at(buffer, count)


def _os_error(path: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), path)


def folder_size(path: str) -> int:
    """The size that the system gives a folder, without giving the lock away; -1 if it does not tell."""
    if _STATX is None:
        return -1
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _STATX(_AT_FDCWD, path.encode(), 0, _STATX_SIZE, buffer) < 0:
        raise _os_error(path)
    (size,) = struct.unpack_from("=Q", buffer, _STATX_SIZE_OFFSET)
    return int(size)


def parse_directory(records: bytes) -> list[str]:
    """The names in the records that getdents64(2) gives, without those that begin with a dot."""
    names = []
    offset = 0
    while offset < len(records):
        (length,) = struct.unpack_from("=H", records, offset + 16)
        names.append(records[offset + 19 : records.index(b"\0", offset + 19)].decode())
        offset += length
    return [name for name in names if not name.startswith(".")]
