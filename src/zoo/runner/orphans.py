"""Kill the process groups that a run leaves behind if it is itself killed (kill -9, out of memory).

`zoo.runner.processes` runs this program and writes to its standard input: `+<group>` when a group starts, `-<group>`
when it ends. The pipe closes when the writer dies, however it dies; groups still running then are killed.
"""

import contextlib
import os
import signal
import sys


def main():
    running = set()
    for line in sys.stdin:
        (running.add if line[0] == "+" else running.discard)(int(line[1:]))
    for group in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
