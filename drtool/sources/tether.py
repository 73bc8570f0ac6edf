"""The parent process of one program, run as `python -I -S tether.py LINE` by `tethered.py`.

Invariants
    The program starts in a session of its own, below this process, so it is never unsupervised. When the line is cut, whose
    other end only the caller holds, the whole session is killed at once.
    With `adopts`, daemons that the program started end with it too: the kernel makes this process the parent of every orphan
    below it. Without, a daemon stays, as expected by a hook or step that starts a service.
    This process ends like the program did, but not before the whole session is gone. Until then the program is not reaped, so
    its PID, which is also the id of the session, cannot be reused.
    Only small modules of the standard library are imported, because this runs before every program.
"""

import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

END = b"e"
LENGTH_BYTES = 8
_LOOK_S = 0.02
_LOOK_AGAIN_S = 0.2
_NULL = "/dev/null"
_BECOME_SUBREAPER = 36


def members(session: int) -> Iterator[tuple[int, int]]:
    """Yield (pid, group) of the running processes of a session, without zombies."""
    for pid, _, group, of in _processes():
        if of == session:
            yield pid, group


def adopted(top: int, session: int) -> list[int]:
    """Return the descendants of `top` outside of `session` that may be signalled."""
    rows = list(_processes())
    known, size = {top}, 0
    while len(known) != size:
        size = len(known)
        known |= {pid for pid, parent, _, _ in rows if parent in known}
    return [pid for pid, _, _, of in rows if pid in known - {top} and of != session and _may_end(pid)]


def _may_end(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _processes() -> Iterator[tuple[int, int, int, int]]:
    """Yield (pid, parent, group, session) of each running process, without zombies."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:  # not Linux: only the group is known
        return
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it is gone, or not accessible
                continue
            if fields[0] not in (b"Z", b"X"):
                yield int(name), int(fields[1]), int(fields[2]), int(fields[3])


def tell(session: int, number: int, top: int | None = None) -> None:
    """Signal the program's group, and the processes of its session that have left that group; with `top`, what it adopted."""
    _send(os.killpg, session, number)
    for pid in () if top is None else adopted(top, session):
        _send(os.kill, pid, number)
    for pid, group in members(session):
        if group != session:
            _send(os.kill, pid, number)


def _send(how: Any, whom: int, number: int) -> None:  # noqa: ANN401 - kill or killpg
    try:
        how(whom, number)
    except (ProcessLookupError, PermissionError):
        pass  # remaining processes are signalled one by one


def _main(line: int) -> None:
    os.set_inheritable(line, False)
    order = _exactly(line, int.from_bytes(_exactly(line, LENGTH_BYTES)))
    argv, env, cwd, identity, kept, grace_s, adopts = marshal.loads(order)  # noqa: S302 - sent by our own parent
    alarm, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told, tells = os.pipe()
    top = _adopting() if adopts else None
    program = os.fork()
    if program == 0:
        _become(argv, env, cwd, identity, tells)
    os.close(tells)
    nothing = os.open(_NULL, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for number in kept:
        os.close(number)
    problem = os.read(told, 1 << 16)
    _say(line, problem or marshal.dumps((program, 0, "")))
    try:
        _watch(program, line, alarm, grace_s, top)
    except BaseException:
        tell(program, signal.SIGKILL, top)  # the program would be unsupervised
        raise
    _end_alike(os.waitpid(program, 0)[1])


def _exactly(line: int, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        part = os.read(line, size_bytes - len(data))
        if not part:
            os._exit(1)  # the caller is gone
        data += part
    return data


def _say(line: int, answer: bytes) -> None:
    try:
        os.write(line, answer)
    except BrokenPipeError:
        pass  # the line is cut, which `_watch` notices


def _become(argv: Any, env: Any, cwd: Any, identity: Any, tells: int) -> NoReturn:  # noqa: ANN401 - plain data
    """Execute the program, or report why not."""
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if cwd is not None:
            os.chdir(cwd)
        if identity is not None:
            user, group, groups = identity
            os.setgroups(groups)
            os.setregid(group, group)
            os.setreuid(user, user)
        if env is None:
            os.execvp(argv[0], argv)  # noqa: S606 - deliberately without a shell
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        os.write(tells, marshal.dumps((0, error.errno or 0, error.strerror or str(error))))
    except BaseException as error:  # noqa: BLE001 - the child must not continue as a second tether
        os.write(tells, marshal.dumps((0, 0, str(error))))
    os._exit(127)


def _adopting() -> int | None:
    """Become the parent of all orphans below this process, and return its PID, or None if the kernel cannot do this."""
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return os.getpid() if prctl is not None and prctl(_BECOME_SUBREAPER, 1, 0, 0, 0) == 0 else None


def _watch(program: int, line: int, alarm: int, grace_s: float, top: int | None) -> None:
    """Wait until the session and the descendants of `top` are gone. Leftover processes get SIGTERM, then SIGKILL."""
    looks = select.poll()
    looks.register(alarm, select.POLLIN)
    looks.register(line, select.POLLIN)
    kill_at: float | None = None
    while True:
        over = os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if over and not any(members(program)) and not (top is not None and adopted(top, program)):
            return
        now = time.monotonic()
        if over and kill_at is None:
            tell(program, signal.SIGTERM, top)
            kill_at = now + grace_s
        killing = kill_at is not None and now >= kill_at
        if killing:
            tell(program, signal.SIGKILL, top)
        pause_s = None if kill_at is None else _LOOK_AGAIN_S if killing else _LOOK_S
        for number, _ in looks.poll(None if pause_s is None else pause_s * 1000):
            if number == alarm:
                os.read(alarm, 64)
                continue
            word = _heard(line)
            if word == END and kill_at is None:
                tell(program, signal.SIGTERM, top)
                kill_at = time.monotonic() + grace_s
            elif not word:
                looks.unregister(line)
                tell(program, signal.SIGKILL, top)
                kill_at = 0.0


def _heard(line: int) -> bytes:
    """Return the next byte from the line, or empty if it is cut."""
    try:
        return os.read(line, 1)
    except ConnectionResetError:
        return b""


def _end_alike(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
