#!/usr/bin/env -S /usr/bin/python3
# Makes a manual page from its template: @OPTIONS@ becomes what the program itself says with --help, @COMMANDS@ what catnap-rpc's parser declares.
# Owner: its process, at build time. Left out: everything that the templates say in words.
"""Usage: make_man.py TEMPLATE OUTPUT --version V [--program PATH [ARGUMENT]...]"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The help texts of CLI11 and argparse: two blanks, then the names, then (after two blanks or on the next line) the text.
_OPTION = re.compile(r"^ {2,4}(-\S.*?)(?: {2,}(\S.*))?$")
_SECTION = re.compile(r"^(\S[^:]*):$")
_MORE = re.compile(r"^ {6,}(\S.*)$")


def roff(text):
  """Text as roff shows it unchanged."""
  text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
  return "\\&" + text if text.startswith((".", "\\(aq")) else text


def bold(text):
  return f"\\fB{roff(text)}\\fR"


def sections_of(help_text):
  """[(title, [(names, text)])] of the options in a --help text."""
  sections, options = [], None
  for line in help_text.split("\n"):
    section = _SECTION.match(line)
    option = _OPTION.match(line)
    more = _MORE.match(line)
    if section:
      options = []
      sections.append((section.group(1), options))
    elif option and options is not None:
      options.append([option.group(1).strip(), (option.group(2) or "").strip()])
    elif more and options:
      options[-1][1] = f"{options[-1][1]} {more.group(1)}".strip()
  return [(title, [tuple(each) for each in options]) for title, options in sections if options]


def help_of(command):
  done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "COLUMNS": "200"})
  if done.returncode != 0:
    sys.exit(f"{command[0]} --help ended with {done.returncode}: {done.stderr}")
  return done.stdout


def options_text(sections):
  """The OPTIONS section's body."""
  lines = []
  for title, options in sections:
    if title.lower() not in ("options", "optional arguments"):
      lines.append(f".SS {roff(title[0].upper() + title[1:])}")
    for names, text in options:
      lines += [".TP", bold(names), roff(text) if text else "\\&"]
  return "\n".join(lines)


def commands_text():
  """All commands of catnap-rpc with their arguments."""
  sys.path.insert(0, str(ROOT / "scripts"))
  os.environ["COLUMNS"] = "200"
  from catnap_rpc.cli import command_parsers, make_parser  # noqa: E402 (needs the path above)
  lines = []
  parser = make_parser()
  helps = {}
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      helps = {choice.dest: choice.help for choice in action._choices_actions}
  for name, command in sorted(command_parsers(parser).items()):
    lines += [f".SS {roff(name)}", roff((helps.get(name) or command.description or "").replace("%%", "%"))]
    for action in command._actions:
      if isinstance(action, argparse._HelpAction):
        continue
      shown = ", ".join(action.option_strings) or action.metavar or action.dest
      if action.option_strings and action.nargs != 0:
        shown += f" {action.metavar or (action.choices and '{' + ','.join(map(str, action.choices)) + '}') or action.dest.upper()}"
      text = (action.help or "").replace("%%", "%")
      if "%(" in text:
        text = command._get_formatter()._expand_help(action)
      lines += [".TP", bold(str(shown)), roff(text) if text else "\\&"]
  return "\n".join(lines)


def page(template, version, command):
  """The template with everything filled in."""
  text = template.replace("@VERSION@", version)
  if "@OPTIONS@" in text:
    text = text.replace("@OPTIONS@", options_text(sections_of(help_of(command))))
  if "@COMMANDS@" in text:
    text = text.replace("@COMMANDS@", commands_text())
  return text


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("template", type=Path)
  parser.add_argument("output", type=Path)
  parser.add_argument("--version", required=True)
  parser.add_argument("--program", nargs="+", default=[])
  args = parser.parse_args()
  args.output.parent.mkdir(parents=True, exist_ok=True)
  args.output.write_text(page(args.template.read_text(encoding="utf-8"), args.version, args.program), encoding="utf-8")
  return 0


if __name__ == "__main__":
  sys.exit(main())
