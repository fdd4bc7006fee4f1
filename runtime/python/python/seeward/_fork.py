"""The end of forked children.

ONNX Runtime's library waits at exit for threads that a forked child does not have (github.com/microsoft/onnxruntime, pull
request 31961). A child of a process with a model therefore leaves by C's `_exit`, after Python has ended and flushed.
"""

import os

_is_registered = False


def guard() -> None:
    """Registers the end of children, once."""
    global _is_registered
    if not _is_registered:
        os.register_at_fork(after_in_child=_leave_at_once)
        _is_registered = True


def _leave_at_once() -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)
