"""What the keys do, without a terminal: each changes the choice or the place in the list, or asks for a line of text.

Left out: reading keys and drawing (screen.py).
"""

from . import views

HELP = [
    ("q", "quit"), ("h ?", "this help; any key leaves it"), ("1-5 Tab Left Right", "reactors, threads, pollers, namespaces, hosts"),
    ("P", "sort by load (the default)"), ("N", "sort by name"), ("T", "sort by throughput"), ("L", "sort by latency"),
    ("< >", "sort by the column to the left, to the right"), ("R", "reverse the order"),
    ("/ o", "filter by a part of a name; empty: all"), ("=", "no filter"), ("i", "hide or show what is idle"),
    ("d s", "delay in seconds"), ("Space", "look again now"), ("z", "colours on or off"),
    ("Up Down PgUp PgDn Home End", "scroll"),
]
NAMES = {"reactors": "name", "threads": "name", "pollers": "name", "namespaces": "nqn", "hosts": "host"}
THROUGHPUT = {"reactors": "wakeups", "threads": "messages", "pollers": "busy_runs", "namespaces": "read_bytes", "hosts": "bytes"}
LATENCY = {"namespaces": "latency", "hosts": "latency"}
# Bounds of the delay: below, the looking itself is most of what is seen; above, it is no monitor.
SHORTEST_DELAY_S, LONGEST_DELAY_S = 0.1, 3600.0


class Keys:
    """`page` is how many rows fit; the screen keeps it up to date. `prompt` is None, or (question, deed of the answer)."""

    def __init__(self, choice):
        self.choice = choice
        self.first = 0  # the first row shown
        self.page = 10
        self.prompt = None
        self.help = False
        self.colours = True
        self.quit = False
        self.look_now = False
        self.message = ""

    def press(self, key):
        """`key`: a character, or a name like "UP"."""
        self.message = ""
        if self.help:
            self.help = False
            return
        deed = self._deeds().get(key)
        if deed is None:
            self.message = "" if len(key) > 1 else f"no command on {key!r}; h shows all"
        else:
            deed()

    def _deeds(self):
        deeds = {"q": self._quit, "h": self._show_help, "?": self._show_help, "F1": self._show_help, " ": self._look,
                 "\t": lambda: self._turn(1), "RIGHT": lambda: self._turn(1), "LEFT": lambda: self._turn(-1), "BTAB": lambda: self._turn(-1),
                 "P": lambda: self._sort(views.LOAD), "N": lambda: self._sort(NAMES), "T": lambda: self._sort(THROUGHPUT), "L": lambda: self._sort(LATENCY),
                 "<": lambda: self._move_sort(-1), ">": lambda: self._move_sort(1), "R": self._reverse, "i": self._idle, "z": self._colour,
                 "/": self._ask_filter, "o": self._ask_filter, "=": lambda: self._filter(""), "d": self._ask_delay, "s": self._ask_delay,
                 "UP": lambda: self._scroll(-1), "DOWN": lambda: self._scroll(1), "PPAGE": lambda: self._scroll(-self.page),
                 "NPAGE": lambda: self._scroll(self.page), "HOME": lambda: self._scroll(-self.first), "END": lambda: self._scroll(1 << 30)}
        for at, view in enumerate(views.VIEWS):
            deeds[str(at + 1)] = lambda chosen=view: self._show(chosen)
        return deeds

    def _quit(self):
        self.quit = True

    def _show_help(self):
        self.help = True

    def _look(self):
        self.look_now = True

    def _show(self, view):
        self.choice.view = view
        self.first = 0
        self.look_now = True

    def _turn(self, step):
        names = list(views.VIEWS)
        self._show(names[(names.index(self.choice.view) + step) % len(names)])

    def _sort(self, keys):
        key = keys.get(self.choice.view)
        if key is None:
            self.message = f"{self.choice.view} have no such column"
            return
        self.choice.sort[self.choice.view] = key
        self.choice.reverse[self.choice.view] = False

    def _move_sort(self, step):
        keys = [column.key for column in views.VIEWS[self.choice.view]]
        at = keys.index(self.choice.sort_key()) + step
        self.choice.sort[self.choice.view] = keys[min(max(at, 0), len(keys) - 1)]

    def _reverse(self):
        self.choice.reverse[self.choice.view] = not self.choice.reverse.get(self.choice.view)

    def _idle(self):
        self.choice.hide_idle = not self.choice.hide_idle
        self.message = "idle ones are hidden" if self.choice.hide_idle else "idle ones are shown"

    def _colour(self):
        self.colours = not self.colours

    def _scroll(self, rows):
        self.first = max(0, self.first + rows)  # the screen holds it to the list's end

    def _ask_filter(self):
        self.prompt = ("Only rows with this in a name (empty: all): ", self._filter)

    def _filter(self, answer):
        self.choice.filter = answer
        self.first = 0

    def _ask_delay(self):
        self.prompt = (f"Change delay from {self.choice.delay_s:g} s to: ", self._delay)

    def _delay(self, answer):
        if not answer.strip():
            return
        try:
            delay_s = float(answer.replace(",", "."))
        except ValueError:
            delay_s = -1.0
        if not SHORTEST_DELAY_S <= delay_s <= LONGEST_DELAY_S:
            self.message = f"'{answer}' is no delay: {SHORTEST_DELAY_S:g} to {LONGEST_DELAY_S:g} seconds"
            return
        self.choice.delay_s = delay_s
        self.look_now = True
