"""How does a process see a container's files, without an image and without rights on this machine?

Private namespaces of users, mounts, processes and the host's name: the machine's own files, with the pod's volumes at
their mount paths. No path is rewritten, nothing is mounted or made on the machine, and what the command leaves running
ends with it. The process believes to be the container's user; for the machine it is who started it.

Run as a program (Python's standard library only, Linux only), it takes a ``Launch`` as JSON on its standard input and
ends as the command ended.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x04000000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
# What a shell answers for a command that is not there, or can't be run.
NOT_FOUND, NOT_EXECUTABLE, NO_SANDBOX = 127, 126, 125
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Mount:
    """A file or folder of the machine, and where the container sees it."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Launch:
    """One command: its arguments, environment, folder to start in, mounts, user and group as it sees itself.

    :param root: an empty folder for the namespace's root; nothing appears in it outside.
    :param keep: folders of the machine that stay, also where a mount covers them.
    :param host: the machine's name, as it sees it.
    :param beside: process id of another sandbox, whose namespaces the command joins; 0 for its own.
    :param report: an open file descriptor: closed when the command runs, after a word if it does not.
    """

    root: str
    command: tuple[str, ...]
    environment: dict[str, str]
    folder: str = "/"
    mounts: tuple[Mount, ...] = ()
    keep: tuple[str, ...] = ()
    host: str = "sandbox"
    user: int = 0
    group: int = 0
    beside: int = 0
    report: int = 2

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Launch:
        raw: dict[str, Any] = json.loads(text)
        raw["mounts"] = tuple(Mount(**mount) for mount in raw["mounts"])
        raw.update({key: tuple(value) for key, value in raw.items() if isinstance(value, list)})
        return cls(**raw)


def _open(root: str, path: str) -> None:
    """Make the folder ``path`` under ``root`` one of our own, with all the machine's entries in it."""
    _mount("tmpfs", root + path, "tmpfs", 0, "mode=755")
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        place = root + entry.path
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            os.mkdir(place)
            _mount(entry.path, place, "", MS_BIND | MS_REC)
        else:
            Path(place).touch()
            _mount(entry.path, place, "", MS_BIND)


def _put(root: str, mounts: Iterable[Mount], keep: Iterable[str]) -> None:
    """Put the mounts over the machine's files under ``root``."""
    # /var/run is a link on most machines; a mount's target must not be one.
    wanted = {Path(os.path.realpath(mount.target)): mount for mount in mounts}
    hidden = [path for path in keep if set(wanted) & {*Path(path).parents}]
    outer_first = sorted({**wanted, **{Path(path): Mount(path, path) for path in hidden}}.items())
    targets = {target for target, _ in outer_first}
    outermost = [target for target in targets if not targets & {*target.parents}]
    # Where the machine has no mount point. Outer folders come first: opening one hides what is mounted in it.
    for path in sorted({_existing(path) for path in outermost if not path.exists()}, key=lambda path: len(path.parts)):
        if path != Path("/"):
            _open(root, str(path))
    for target, mount in outer_first:
        place = Path(root + str(target))
        if not os.path.lexists(place):
            _make_place(place, os.path.isdir(mount.source))
        _mount(mount.source, str(place), "", MS_BIND | MS_REC)
    # Last, for a volume can hold another's mount point.
    for target, mount in outer_first:
        if mount.read_only:
            # A user namespace may not take away flags that the filesystem has.
            kept = os.statvfs(root + str(target)).f_flag & ~os.ST_RELATIME
            _mount("none", root + str(target), "", MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def _existing(path: Path) -> Path:
    """The nearest folder above that the machine has."""
    return next(parent for parent in path.parents if parent.exists())


def _make_place(place: Path, is_folder: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        place.mkdir(exist_ok=True)
    else:
        place.touch()


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [text.encode() or None for text in (source, target, kind)]
    if _libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None):
        code = ctypes.get_errno()
        raise OSError(code, f"mount of {source} at {target}: {os.strerror(code)}")


def _enter_namespaces(user: int, group: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS):
        code = ctypes.get_errno()
        raise OSError(code, f"no user, mount and process namespaces on this machine: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {gid} 1")


def _join(sandbox: int) -> None:
    """Enter the namespaces of the command that another sandbox runs."""
    (child,) = Path(f"/proc/{sandbox}/task/{sandbox}/children").read_text().split()
    opened = [os.open(f"/proc/{child}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt", "pid", "uts")]
    for namespace in opened:
        if _libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), f"no way into the sandbox {sandbox}")
        os.close(namespace)


def _build(launch: Launch) -> None:
    socket.sethostname(launch.host)
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _open(launch.root, "/")
    try:
        _mount("proc", launch.root + "/proc", "proc", 0)
    except OSError as error:
        # Inside some containers only the machine's own /proc may be seen. It serves as well.
        if error.errno != errno.EPERM:
            raise
    _put(launch.root, launch.mounts, launch.keep)


def _enter(launch: Launch) -> None:
    os.chroot(launch.root)
    os.makedirs(launch.folder, exist_ok=True)
    os.chdir(launch.folder)


def _run(launch: Launch) -> int:
    """In the new process namespace, as its first process: becomes the command, or tells why not."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if not launch.beside:
            _build(launch)
        _enter(launch)
        os.setsid()
    except OSError as error:
        return _refuse(launch, f"no sandbox: {error}", NO_SANDBOX)
    try:
        os.set_inheritable(launch.report, launch.report <= 2)
        os.execvpe(launch.command[0], launch.command, launch.environment)
    except FileNotFoundError as error:
        return _refuse(launch, f"{launch.command[0]}: {error.strerror}", NOT_FOUND)
    except OSError as error:
        return _refuse(launch, f"{launch.command[0]}: {error.strerror}", NOT_EXECUTABLE)


def _refuse(launch: Launch, why: str, code: int) -> int:
    os.write(launch.report, why.encode())
    return code


def main(launch: Launch) -> int:
    # Whoever started this may be killed without a chance to clean up.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if launch.beside:
            _join(launch.beside)
        else:
            _enter_namespaces(launch.user, launch.group)
    except (OSError, ValueError) as error:
        return _refuse(launch, f"no sandbox: {error}", NO_SANDBOX)
    # A signal that comes before there is somebody to hand it to must not be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os._exit(_run(launch))
    if launch.report > 2:
        os.close(launch.report)
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    asked = Launch.from_json(sys.stdin.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    ended = main(asked)
    sys.exit(128 - ended if ended < 0 else ended)
