"""Ends the process groups of a run that was itself killed without warning (kill -9, out of memory).

Run as a program by `zoo.runner.processes`, with a pipe as input: `+<group>` as a group starts, `-<group>` as it ends.
The pipe closes when its writer dies, however it dies; what has not ended by then is killed.
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
