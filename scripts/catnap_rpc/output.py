"""How results are shown: JSON (texts bare, so that shells can take them as they are), or a table for people (-o table).

Left out: colours, paging.
"""

import json

# Longer values are cut in tables.
MAX_CELL = 48


def cell(value):
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL else text[:MAX_CELL - 1] + "…"


def rows_of(result):
    """The list of objects that is the substance of a result, or None: the result itself, or its only member that is one."""
    if isinstance(result, list) and result and all(isinstance(each, dict) for each in result):
        return result
    if isinstance(result, dict):
        lists = [value for value in result.values() if rows_of(value) is value and value]
        if len(lists) == 1:
            return lists[0]
    return None


def table_text(result):
    rows = rows_of(result)
    if rows is None:
        if isinstance(result, dict):
            rows = [{"name": name, "value": value} for name, value in result.items()]
        elif isinstance(result, list):
            return "\n".join(cell(value) for value in result)
        else:
            return cell(result)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[name.upper() for name in names]] + [[cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


class Output:
    """Chosen once for the whole run: `form` is "json" or "table"."""
    form = "json"


def print_result(result):
    if Output.form == "table":
        print(table_text(result))
    else:
        print(result if isinstance(result, str) else json.dumps(result, indent=2))
