"""How numbers and names look: three significant digits, units, and nothing in a name that could steer a terminal.

Left out: colours.
"""

import unicodedata

NOTHING = "-"


def printable(text):
    """Names come from hosts and other machines: control characters (escape sequences among them) and what has no form are shown as ?."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def width(text):
    """Columns that the text takes on a terminal."""
    return sum(0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text, columns):
    """At most so many columns; what was cut ends in ~."""
    if width(text) <= columns:
        return text
    kept = ""
    for letter in text:
        if width(kept + letter) > columns - 1:
            break
        kept += letter
    return kept + "~" if columns > 0 else ""


def pad(text, columns, right=False):
    text = cut(text, columns)
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def digits(value):
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return "0" if size == 0 else f"{value:.2f}"


def _scaled(value, step, units):
    at = 0
    while abs(value) >= step * 0.9995 and at < len(units) - 1:
        value /= step
        at += 1
    return value, units[at]


def count(value):
    """Rates and counts: 0, <1, 812, 12.3k."""
    if value is None:
        return NOTHING
    if 0 < value < 0.5:
        return "<1"
    if abs(value) < 999.5:
        return f"{value:.0f}"
    size, unit = _scaled(value, 1000, ["", "k", "M", "G", "T"])
    return digits(size) + unit


def megabytes(value):
    """Bytes per second as MB/s."""
    if value is None:
        return NOTHING
    return "0" if value == 0 else f"{value / 1e6:.1f}" if value >= 1e5 else f"{value / 1e6:.2f}"


def latency(nanoseconds):
    if nanoseconds is None:
        return NOTHING
    value, unit = _scaled(nanoseconds, 1000, ["ns", "us", "ms", "s"])
    return (f"{value:.0f}" if unit == "ns" else digits(value)) + unit


def percent(share):
    return NOTHING if share is None else f"{share * 100:.1f}"


def size(value):
    if value is None:
        return NOTHING
    scaled, unit = _scaled(value, 1024, ["B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    return (f"{scaled:.0f}" if scaled == int(scaled) else digits(scaled)) + unit


def plain(value):
    return NOTHING if value is None else printable(value)
