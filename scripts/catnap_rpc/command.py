"""How commands are declared: a method, the arguments that make its parameters, and what is printed (output.py).

Left out: commands that make several calls (config.py).
"""

import argparse

from .output import print_result


class Arg:
    """One argument. `to` is where its value goes in the parameters ("namespace.nsid"); argparse takes the rest."""

    def __init__(self, *flags, to=None, **options):
        self.flags = flags
        self.to = to
        self.options = options

    def add_to(self, parser):
        action = parser.add_argument(*self.flags, **self.options)
        self.name = action.dest
        if not self.flags[0].startswith("-") and action.metavar is None:
            action.metavar = self.flags[0]


def flag(*flags, value=True, **options):
    """An option without a value. Absent, it is not sent: the server's default holds."""
    return Arg(*flags, action="store_const", const=value, **options)


def number(*flags, **options):
    return Arg(*flags, type=int, **options)


def names(text):
    return [name for name in text.split(",") if name]


def on_or_off(*flags, **options):
    """--x and --no-x."""
    return Arg(*flags, action=argparse.BooleanOptionalAction, **options)


class Command:
    """A command named like its method. `build` may change the collected parameters; `shows` says whether the result is printed."""

    def __init__(self, method, help_text, *args, build=None, shows=False):
        self.method = method
        self.help = help_text
        self.args = args
        self.build = build
        self.shows = shows

    def add_to(self, subparsers):
        parser = subparsers.add_parser(self.method, help=self.help, description=self.help)
        for arg in self.args:
            arg.add_to(parser)
        parser.set_defaults(run=self.run)

    def params(self, namespace):
        params = {}
        for arg in self.args:
            value = getattr(namespace, arg.name)
            if value is None:
                continue
            place = params
            *outer, last = (arg.to or arg.name).split(".")
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = value
        return self.build(params) if self.build else params

    def run(self, client, namespace):
        result = client.call(self.method, self.params(namespace))
        if self.shows and result is not None:
            print_result(result, self.method)
