"""top on a terminal, by curses: draws, reads keys, and follows the size of the window. A thread of its own asks the server, so that keys never wait for it.

Left out: what keys mean (keys.py), what is shown (table.py).
"""

import collections
import curses
import os
import select
import signal
import sys
import threading

from catnap_rpc.client import RpcFailure

from . import table, text, views
from .keys import HELP, Keys
from .sample import reason

# Between two attempts to reach a server that is not there.
RETRY_S = 1.0
ESCAPE = "\x1b"


class Sampler(threading.Thread):
    """Takes samples for the views that are wanted, and writes a byte to a pipe whenever there is something new."""

    def __init__(self, source, choice, first):
        super().__init__(daemon=True)
        self.source, self.choice = source, choice
        self.before, self.now, self.view = None, first, choice.view
        self.fault = ""
        self.lock = threading.Lock()
        self.wake = threading.Event()
        self.ended = False
        self.out, self.told = os.pipe()

    def run(self):
        while not self.ended:
            self.wake.wait(RETRY_S if self.fault else self.choice.delay_s)
            self.wake.clear()
            if not self.ended:
                self._look()

    def _look(self):
        view = self.choice.view
        try:
            sample = self.source.sample([view])
        except RpcFailure as failure:
            with self.lock:
                # What was before says nothing about now: no row is left standing as if it were live.
                self.fault, self.before, self.now = reason(failure), None, None
        else:
            with self.lock:
                self.fault, self.before, self.now, self.view = "", self.now, sample, view
        os.write(self.told, b".")

    def latest(self):
        """(before, now, view that it was taken for, fault)."""
        with self.lock:
            return self.before, self.now, self.view, self.fault

    def end(self):
        self.ended = True
        self.wake.set()


class Screen:
    """Owns the terminal."""

    def __init__(self, window, source, keys, sampler):
        self.window, self.source, self.keys, self.sampler = window, source, keys, sampler
        self.resized = False
        self.pressed = collections.deque()  # keys that were read and not used yet: a question takes its answer from here
        window.keypad(True)
        window.nodelay(True)
        self.has_colours = False
        try:
            curses.curs_set(0)
        except curses.error:
            pass  # a terminal without a way to hide its cursor
        try:
            curses.start_color()
            curses.use_default_colors()
            curses.init_pair(1, curses.COLOR_YELLOW, -1)
            curses.init_pair(2, curses.COLOR_RED, -1)
            curses.init_pair(3, curses.COLOR_CYAN, -1)
            self.has_colours = curses.has_colors()
        except curses.error:
            pass  # or without colours

    def colour(self, pair):
        return curses.color_pair(pair) if self.has_colours and self.keys.colours else 0

    def put(self, row, line, attribute=0, column=0):
        """Writes what fits; the last cell of the screen stays free, as writing it scrolls some terminals."""
        height, width = self.window.getmaxyx()
        if 0 <= row < height and column < width:
            room = width - column - (1 if row == height - 1 else 0)
            try:
                self.window.addstr(row, column, text.cut(line, room), attribute)
            except curses.error:
                pass  # a window that became smaller meanwhile is drawn again at once

    def draw(self):
        self.window.erase()
        if self.keys.help:
            self._draw_help()
        else:
            self._draw_table()
        self.window.refresh()

    def _draw_help(self):
        self.put(0, "Keys of catnap top", curses.A_BOLD)
        height, width = self.window.getmaxyx()
        room = max(1, height - 4)
        columns = -(-len(HELP) // room) if len(HELP) > room else 1  # a low window has them side by side
        step = width // columns
        for at, (key, does) in enumerate(HELP):
            row, column = 2 + at % room, (at // room) * step
            self.put(row, text.pad(key, 27 if columns == 1 else 12), curses.A_BOLD, column)
            self.put(row, text.cut(does, step - 14), 0, column + (28 if columns == 1 else 13))
        self.put(3 + min(len(HELP), room), "In namespaces LATENCY is the mean over all I/O since the last look; WHY AWAKE is of this moment.")

    def _draw_table(self):
        before, now, view, fault = self.sampler.latest()
        height, width = self.window.getmaxyx()
        choice = self.keys.choice
        if now is None:
            self.put(0, f"catnap top - no contact with {text.printable(self.source.address)}", curses.A_BOLD | self.colour(2))
            self.put(1, text.printable(fault))
            self.put(2, f"Trying again every {RETRY_S:g} s; q quits.")
            return
        lines = table.summary(self.source, before, now) + table.refusals(view, now)
        lines = lines[:max(1, height - 6)]
        for at, line in enumerate(lines):
            self.put(at, line, curses.A_BOLD if at == 0 else self.colour(2) if at > 2 else 0)
        self._draw_tabs(len(lines))
        self._draw_message(len(lines) + 1)
        top = len(lines) + 2
        rows = choice.chosen(views.rows_of(view, before, now)) if view == choice.view else []
        self._draw_rows(top, rows, height - top - 1, width)

    def _draw_tabs(self, row):
        column = 0
        for at, view in enumerate(views.VIEWS):
            label = f" {at + 1} {view} "
            self.put(row, label, curses.A_REVERSE if view == self.keys.choice.view else self.colour(3), column)
            column += len(label) + 1

    def _draw_message(self, row):
        choice = self.keys.choice
        if self.keys.message:
            self.put(row, self.keys.message, curses.A_BOLD)
        elif choice.filter or choice.hide_idle:
            self.put(row, " ".join(([f"only '{choice.filter}'"] if choice.filter else []) + (["without idle ones"] if choice.hide_idle else [])), self.colour(1))

    def _draw_rows(self, top, rows, room, width):
        self.keys.page = max(1, room)
        self.keys.first = max(0, min(self.keys.first, len(rows) - self.keys.page))
        view = self.keys.choice.view
        head, places, lines = table.lines_of(view, rows, width)
        self.put(top, text.pad(head, width), curses.A_REVERSE)
        for key, start, end in places:
            if key == self.keys.choice.sort_key():
                self.put(top, text.pad(head[start:end], end - start), curses.A_REVERSE | curses.A_BOLD | curses.A_UNDERLINE, start)
        shown = lines[self.keys.first:self.keys.first + self.keys.page]
        busy = views.IDLE_BY[view]
        for at, line in enumerate(shown):
            row = rows[self.keys.first + at]
            self.put(top + 1 + at, line, curses.A_BOLD if any(row.get(key) for key in busy) else 0)
        if not rows:
            self.put(top + 1, "nothing passes the filter" if self.keys.choice.filter or self.keys.choice.hide_idle else f"no {view}")

    def ask(self, question):
        """A line of text, or None if the user pressed Escape."""
        answer = ""
        while True:
            height, _ = self.window.getmaxyx()
            row = min(len(table.summary(self.source, None, self.sampler.now)) + 1 if self.sampler.now else 3, height - 1)
            self.window.move(row, 0)
            self.window.clrtoeol()
            self.put(row, question + answer, curses.A_BOLD)
            self.window.refresh()
            self.read_keys(wait_for_samples=False)
            while self.pressed:
                key = self.pressed.popleft()
                if key in ("\n", "\r", "ENTER"):
                    return answer
                if key == ESCAPE:
                    return None
                if key in ("BACKSPACE", "\x7f", "\b"):
                    answer = answer[:-1]
                elif len(key) == 1 and key.isprintable():
                    answer += key

    def read_keys(self, wait_for_samples=True):
        """Waits for a key, a sample or a new size, unless there are keys already; they go to `pressed`."""
        if self.pressed:
            return
        waits = [sys.stdin.fileno(), self.sampler.out] if wait_for_samples else [sys.stdin.fileno()]
        try:
            ready, _, _ = select.select([*waits, self.wake_fd], [], [])
        except InterruptedError:
            ready = []
        if self.sampler.out in ready:
            os.read(self.sampler.out, 4096)
        if self.wake_fd in ready:
            os.read(self.wake_fd, 4096)
        if self.resized:
            self.resized = False
            size = os.get_terminal_size(sys.stdin.fileno())
            curses.resizeterm(max(1, size.lines), max(1, size.columns))
            self.window.clear()
        self._take_keys()

    def _take_keys(self):
        while True:
            try:
                key = self.window.get_wch()
            except curses.error:
                return
            if isinstance(key, str):
                self.pressed.append(key)
            elif key != curses.KEY_RESIZE:
                self.pressed.append(curses.keyname(key).decode(errors="replace").removeprefix("KEY_").replace("F(1)", "F1"))

    def watch_size(self):
        """A signal of a new size ends the wait for keys."""
        self.wake_fd, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)

        def noted(*_):
            self.resized = True

        signal.signal(signal.SIGWINCH, noted)

    def run(self):
        self.watch_size()
        self.sampler.start()
        while not self.keys.quit:
            self.draw()
            self.read_keys()
            while self.pressed:
                self.keys.press(self.pressed.popleft())
                if self.keys.prompt:
                    (question, deed), self.keys.prompt = self.keys.prompt, None
                    answer = self.ask(question)
                    if answer is not None:
                        deed(answer)
            if self.keys.look_now:
                self.keys.look_now = False
                self.sampler.wake.set()


def run(source, choice):
    """Until the user quits. RpcFailure when nobody is there at the start."""
    first = source.sample([choice.view])
    sampler = Sampler(source, choice, first)
    os.environ.setdefault("ESCDELAY", "50")  # ms; a lone Escape is one soon
    try:
        curses.wrapper(lambda window: Screen(window, source, Keys(choice), sampler).run())
    finally:
        sampler.end()
