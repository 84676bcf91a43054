"""Run a command as the user `nobody`: PostgreSQL refuses to run as root.

The command keeps one privilege of root where the system grants it, to pass through folders that are closed to others
(a checkout under /root), so that no permission of any folder has to be changed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
import sys
from typing import Final

USER: Final = "nobody"

_PR_SET_SECUREBITS: Final = 28
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_KEEP_ON_SETUID: Final = 1 << 2  # SECBIT_NO_SETUID_FIXUP: neither setuid(2) nor access(2) drops capabilities
_CAP_DAC_OVERRIDE: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522


def run(argv: list[str]) -> None:
    """Become `nobody` and execute `argv`. Returns never."""
    user = pwd.getpwnam(USER)
    libc = ctypes.CDLL(None, use_errno=True)
    keeps = sys.platform == "linux" and libc.prctl(_PR_SET_SECUREBITS, _KEEP_ON_SETUID, 0, 0, 0) == 0
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if keeps:
        mask = 1 << _CAP_DAC_OVERRIDE
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        libc.capset(header, struct.pack("=6I", mask, mask, mask, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    os.execv(argv[0], argv)  # noqa: S606 - that is the point


if __name__ == "__main__":
    run(sys.argv[1:])
