"""Keep a server no longer than the process that wanted it.

Run as a program: `guardian.py JSON`, where JSON holds command, log, cwd, env and the user and
group to run as, or null. Prints the server's process id. Each line on standard input is the number
of a signal to pass on; the end of standard input means that the owner is gone, however it went,
SIGKILL included: the server is killed.

A parent-death signal would not do: it follows the thread that started the server, not the
process, and tests restart servers from threads. Being the server's parent, the guardian also never
signals a stranger that was given the same process id.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading


def _listen(child: subprocess.Popen[bytes]) -> None:
    for line in sys.stdin:
        child.send_signal(int(line))
    child.kill()


def main() -> int:
    """Start the server, pass signals on, and return when it has ended."""
    task = json.loads(sys.argv[1])
    with open(task["log"], "ab") as log:  # noqa: PTH123 - started with -S for speed
        child = subprocess.Popen(
            task["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=task["cwd"],
            env=task["env"],
            user=task["user"],
            group=task["group"],
            extra_groups=None if task["user"] is None else [],
            start_new_session=True,
        )
    print(child.pid, flush=True)
    threading.Thread(target=_listen, args=(child,), daemon=True).start()
    return 0 if child.wait() == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
