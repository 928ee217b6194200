"""Show the progress of a run: a live table on a terminal, otherwise a line for each event."""

import collections
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

ENDS = ("unchanged", "restored", "ran", "failed", "skipped", "stopped")
COLOURS = {"ran": "green", "restored": "green", "failed": "bold red", "skipped": "yellow", "stopped": "yellow"}


class LiveView:
    """Shows the states of a run's stages. `seconds` (of this run) and `past` (of earlier ones) are {name: seconds}."""

    def __init__(self, steps, slots, past, console=None):
        self.steps, self.slots, self.seconds = steps, slots, {}
        self._past = past
        self._console = console or Console(highlight=False)
        self._began, self._since, self._state = time.monotonic(), {}, {}
        live = Live(console=self._console, get_renderable=self._draw, auto_refresh=False, transient=True)
        self._live = live if self._console.is_terminal else None

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error):
        if self._live:
            self._live.stop()

    def note(self, name, state, states):
        """Record and print that a stage has entered a state."""
        self._state = states
        if state == "running":
            self._since[name] = time.monotonic()
            if not self._live:
                self._print(f"{name} started")
        elif name in self._since and state in ENDS:
            self.seconds[name] = round(time.monotonic() - self._since.pop(name), 1)
            self._print(f"{name} {state} in {duration(self.seconds[name])}", state)
        elif state in ENDS and state != "unchanged":
            self._print(f"{name} {state}", state)
        if state != "ran":
            self.seconds.pop(name, None)

    def refresh(self, states):
        """Redraw the table on a terminal."""
        self._state = states
        if self._live:
            self._live.refresh()

    def summarise(self, why, tail):
        """Print the reason for each failure with the last lines of its log, then the number of stages by state."""
        for name, reason in why.items():
            self._console.print(f"\n[bold red]{escape(name)} failed[/]: {escape(reason)}")
            for line in tail(name):
                self._console.print(f"  | {escape(line)}", soft_wrap=True)
        if list(self._state.values()) == ["unchanged"] * len(self._state):
            self._console.print("All stages are up to date.")
        else:
            elapsed = duration(time.monotonic() - self._began)
            self._console.print(f"{len(self._state)} stages: {self._counts()}; {elapsed}")

    def left(self):
        """Estimated seconds left, from the past durations of each stage or its group; None if unknown."""
        known, now, left = self._past | self.seconds, time.monotonic(), 0
        for name in (name for name, state in self._state.items() if state not in ENDS):
            step = self.steps[name]
            like = [seconds for other, seconds in known.items() if other.partition("@")[0] == step.group]
            if not like:
                return None
            seconds = known.get(name, sum(like) / len(like)) - (now - self._since.get(name, now))
            left += max(seconds, 0) / (1 if step.alone else self.slots)
        return left

    def _draw(self):
        ended = sum(state in ENDS for state in self._state.values())
        table = Table.grid(padding=(0, 2))
        for name, since in self._since.items():
            table.add_row(Text(name), Text(duration(time.monotonic() - since), style="cyan"))
        left = self.left()
        line = f"{ended} of {len(self._state)} · {duration(time.monotonic() - self._began)}"
        line += f" · about {duration(left)} to go" if left else ""
        bar = ProgressBar(total=len(self._state), completed=ended, width=40)
        return Group(table, bar, Text(f"{line}\n{self._counts()}"))

    def _counts(self):
        counts = collections.Counter(self._state.values())
        order = ("running", "changed", "waiting", *ENDS)
        return ", ".join(f"{counts[state]} {state}" for state in order if state in counts)

    def _print(self, text, state=None):
        ended = sum(value in ENDS for value in self._state.values())
        prefix = f"[{ended}/{len(self._state)}] {duration(time.monotonic() - self._began)} "
        self._console.print(Text(prefix + text, style=COLOURS.get(state, "")), soft_wrap=True)


def duration(seconds):
    """7.3 s, 4 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
