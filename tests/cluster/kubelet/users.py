"""Does a container's user have a name? Programs look up whom they run as, and an image would know."""

from __future__ import annotations

import pwd
from pathlib import Path

NAME = "container"


def passwd(user: int, group: int, home: Path) -> str:
    """Content of /etc/passwd: the machine's users, and ``user`` when it is none of them."""
    known = [":".join(map(str, account)) for account in pwd.getpwall()]
    if all(account.pw_uid != user for account in pwd.getpwall()):
        known.append(f"{NAME}:x:{user}:{group}::{home}:/bin/sh")
    return "\n".join(known) + "\n"
