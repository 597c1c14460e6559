"""A program on a pseudo terminal, and what its screen shows: enough of a VT100 for curses.

Owner: the test that made it. Left out: colours (they are parsed and forgotten), characters of two columns.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

# A cursor sequence ("\x1b[12;1H"), a character set, or another escape; and the controls between them.
TOKEN = re.compile(r"\x1b\[([?>=]?)([\d;]*)([@-~])|\x1b[()][A-Z0-9]|\x1b[=>78DEMHc]|\x1b\][^\x07]*\x07|[\x00-\x1f]|[^\x00-\x1f]+", re.DOTALL)
INCOMPLETE = re.compile(r"\x1b(\[[?>=]?[\d;]*|[()])?$")


class Screen:
    """Rows of characters, and a cursor."""

    def __init__(self, rows, columns):
        self.resize(rows, columns)
        self.rest = ""

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.top, self.bottom = 0, rows - 1
        self.last = " "

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def feed(self, text):
        text = self.rest + text
        cut = INCOMPLETE.search(text)
        self.rest = text[cut.start():] if cut else ""
        for match in TOKEN.finditer(text[:cut.start()] if cut else text):
            token = match.group(0)
            if match.group(3) and not match.group(1):
                self._sequence([int(one) for one in match.group(2).split(";") if one], match.group(3))
            elif token == "\x1bM":
                self._up()
            elif token in ("\x1bD", "\n"):
                self._down()
            elif token == "\r":
                self.column = 0
            elif token == "\b":
                self.column = max(0, self.column - 1)
            elif token[0] >= " ":
                self._write(token)

    def _write(self, text):
        for letter in text:
            if self.column >= self.columns:
                self.column = 0
                self._down()
            self.cells[self.row][self.column] = self.last = letter
            self.column += 1

    def _down(self):
        if self.row == self.bottom:
            del self.cells[self.top]
            self.cells.insert(self.bottom, [" "] * self.columns)
        else:
            self.row = min(self.row + 1, self.rows - 1)

    def _up(self):
        if self.row == self.top:
            del self.cells[self.bottom]
            self.cells.insert(self.top, [" "] * self.columns)
        else:
            self.row = max(self.row - 1, 0)

    def _sequence(self, numbers, kind):
        count = numbers[0] if numbers and numbers[0] else 1
        line = self.cells[self.row]
        at = min(self.column, self.columns - 1)
        if kind in "Hf":
            self.row = min(self.rows, numbers[0] if numbers else 1) - 1
            self.column = min(self.columns, numbers[1] if len(numbers) > 1 else 1) - 1
        elif kind == "d":
            self.row = min(self.rows, count) - 1
        elif kind in "G`":
            self.column = min(self.columns, count) - 1
        elif kind in "ABCD":
            self.row = min(max(self.row + {"A": -count, "B": count}.get(kind, 0), 0), self.rows - 1)
            self.column = min(max(self.column + {"C": count, "D": -count}.get(kind, 0), 0), self.columns - 1)
        elif kind == "K":
            self._blank(line, at if not numbers or numbers[0] == 0 else 0, self.columns if not numbers or numbers[0] != 1 else at + 1)
        elif kind == "J":
            self._erase(numbers[0] if numbers else 0, at)
        elif kind == "X":
            self._blank(line, at, min(self.columns, at + count))
        elif kind == "P":
            self.cells[self.row] = (line[:at] + line[at + count:] + [" "] * count)[:self.columns]
        elif kind == "@":
            self.cells[self.row] = (line[:at] + [" "] * count + line[at:])[:self.columns]
        elif kind == "b":
            self._write(self.last * count)
        elif kind == "r":
            self.top, self.bottom = (numbers[0] - 1 if numbers else 0), (numbers[1] - 1 if len(numbers) > 1 else self.rows - 1)
            self.row = self.column = 0
        elif kind in "LM":
            for _ in range(count):
                del self.cells[self.row if kind == "M" else self.bottom]
                self.cells.insert(self.bottom if kind == "M" else self.row, [" "] * self.columns)

    @staticmethod
    def _blank(line, start, end):
        line[start:end] = [" "] * (end - start)

    def _erase(self, what, at):
        if what == 0:
            self._blank(self.cells[self.row], at, self.columns)
        for row in range(self.row + 1 if what == 0 else 0, self.rows if what != 1 else self.row):
            self._blank(self.cells[row], 0, self.columns)


class OnTerminal:
    """A child on a terminal of its own. `until` reads what it shows until that is as wanted."""

    def __init__(self, command, rows=24, columns=80, term="vt100"):
        self.screen = Screen(rows, columns)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.status = None
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            environment = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
            os.execve(command[0], command, environment | {"TERM": term, "LC_ALL": "C.UTF-8"})
        # The child sets its size too; whoever comes first.
        self._set_size(rows, columns)

    def _set_size(self, rows, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def read(self, bound_s):
        """Takes in what comes within the bound; False when the child has closed its terminal."""
        if not select.select([self.terminal], [], [], bound_s)[0]:
            return True
        try:
            piece = os.read(self.terminal, 65536)
        except OSError:
            return False  # Linux says EIO when the last one at the other end has gone
        self.screen.feed(self.decoder.decode(piece))
        return bool(piece)

    def until(self, condition, what, bound_s=60):
        """Waits until condition(text of the screen); the text."""
        deadline = time.monotonic() + bound_s
        while not condition(self.screen.text()):
            if not self.read(0.2) or time.monotonic() > deadline:
                raise AssertionError(f"in vain waited for {what}; the screen shows:\n{self.screen.text()}")
        return self.screen.text()

    def end(self, bound_s=60):
        """Its exit status, once it has ended by itself."""
        deadline = time.monotonic() + bound_s
        while self.read(0.2) and time.monotonic() < deadline:
            pass
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"the program does not end; the screen shows:\n{self.screen.text()}")
            else:
                self.read(0.05)
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = -signal.SIGKILL
        os.close(self.terminal)
