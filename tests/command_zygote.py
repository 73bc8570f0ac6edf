"""A process that has imported drtool already and forks for each command line: what tests run by the hundred starts in no time.

Each command is a process of its own all the same, with the directory, the environment and the files that it was given. It
differs from `python -m drtool` in this: its modules are there already and, where keys are remembered, so are those that were
derived before, and a key slot that it makes asks for one pass of Argon2id instead of three. Tests of start-up, and commands
under an unusual environment, run the program itself.
"""

import array
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

_LENGTH_BYTES = 4
_STREAMS = 3
_OURS = ("DRTOOL_", "XDG_", "AWS_")
_HARMLESS = frozenset({"HOME", "TZ", "PYTHONPATH", "PATH", "TMPDIR", "NO_COLOR"})


def suits(environ: Mapping[str, str]) -> bool:
    """Whether a fork shows what the program itself would do: nothing is set that an interpreter reads when it starts."""
    changed = {name for name in {*environ, *os.environ} if environ.get(name) != os.environ.get(name)}
    return all(name in _HARMLESS or name.startswith(_OURS) for name in changed)


class Zygote:
    """The parent's end. `within`: a module; the process calls its `prepare()` first, each command enters its `conditions()`."""

    def __init__(self, within: str = "") -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, __file__, str(theirs.fileno()), within, *map(str, _keys)]
            self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def close(self) -> None:
        """Ends the process, and waits for it."""
        self._line.close()
        self._process.wait()

    def run(
        self, words: Sequence[str], cwd: Path, environ: Mapping[str, str], streams: Sequence[int], timeout_s: float
    ) -> int:
        """The exit code as `subprocess` tells it. TimeoutExpired: it was killed, as `subprocess.run` does."""
        order = {"words": words, "cwd": os.fspath(cwd), "environ": dict(environ)}
        text = json.dumps(order).encode()
        descriptors = array.array("i", streams)
        self._line.sendmsg(
            [len(text).to_bytes(_LENGTH_BYTES, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        )
        self._line.sendall(text)
        child = int.from_bytes(_exactly(self._line, _LENGTH_BYTES), "big")
        self._line.settimeout(timeout_s)
        try:
            return int.from_bytes(_exactly(self._line, _LENGTH_BYTES), "big", signed=True)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            self._line.settimeout(None)
            _exactly(self._line, _LENGTH_BYTES)
            raise subprocess.TimeoutExpired(["drtool", *words], timeout_s) from None
        finally:
            self._line.settimeout(None)


_keys: list[Path] = []


def remember_keys_at(place: Path) -> None:
    """Where all of them remember keys, if anywhere; before the first begins."""
    _keys[:] = [place]


@cache
def shared() -> Zygote:
    """One for all tests of this process; it ends when its line does."""
    return Zygote()


def _exactly(line: socket.socket, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        part = line.recv(size_bytes - len(data))
        if not part:
            raise EOFError("the process that forks commands is gone")
        data += part
    return data


def _serve(line: socket.socket, conditions: Callable[[], AbstractContextManager[None]]) -> None:
    _import_everything()
    gc.freeze()  # a fork copies what a collection touches
    while True:
        try:
            head, descriptors, _, _ = socket.recv_fds(line, _LENGTH_BYTES, _STREAMS)
        except OSError:
            return
        if not head:
            return
        order = json.loads(_exactly(line, int.from_bytes(head, "big")))
        child = os.fork()
        if child == 0:
            line.close()
            _become(order, descriptors, conditions)
        for descriptor in descriptors:
            os.close(descriptor)
        line.sendall(child.to_bytes(_LENGTH_BYTES, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        line.sendall(code.to_bytes(_LENGTH_BYTES, "big", signed=True))


def _import_everything() -> None:
    import drtool

    for module in pkgutil.walk_packages(drtool.__path__, "drtool."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name != "textual":  # an extra of `browse`, whose own tests demand it
                    raise
    for name in ("rich.console", "rich.progress", "rich.table"):
        importlib.import_module(name)


def _become(order: dict, descriptors: Sequence[int], conditions: Callable[[], AbstractContextManager[None]]) -> None:
    """The command itself; never returns."""
    code = 1
    try:
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environ"])
        time.tzset()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(_STREAMS, max(descriptors) + 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process is
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        sys.argv = ["drtool", *order["words"]]
        from drtool.cli.main import run

        with conditions():
            code = run(sys.argv[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - what the interpreter would do with it
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(code)


def _leave(code: int) -> None:
    """As an interpreter ends: threads are waited for, what stands in buffers goes out."""
    import atexit
    import threading

    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 120
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        module = importlib.import_module(sys.argv[2]) if sys.argv[2] else None
        if module is not None:
            module.prepare()
        import remembered_keys

        with remembered_keys.remembering(Path(sys.argv[3])) if sys.argv[3:] else nullcontext():
            _serve(parent, module.conditions if module is not None else nullcontext)
