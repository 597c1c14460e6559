"""Completion of command names and options for bash and zsh: `source <(rpc.py completion bash)`.

Left out: values (names of bdevs, subsystems), which would ask the server at each key.
"""

SCRIPT = """# completion of {prog} for {shell}; made by "{prog} completion {shell}"
{prelude}_catnap_rpc() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="" at
  for ((at = 1; at < COMP_CWORD; at++)); do
    case "${{COMP_WORDS[at]}}" in
      {with_value}) ((at++)) ;;
      -*) ;;
      *) command="${{COMP_WORDS[at]}}"; break ;;
    esac
  done
  local options=""
  case "$command" in
    "") options="{commands} {global_options}" ;;
{cases}
  esac
  COMPREPLY=($(compgen -W "$options" -- "$word"))
}}
complete -o default -F _catnap_rpc rpc.py catnap-rpc
"""
PRELUDE = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}


def option_names(parser):
    return sorted(name for action in parser._actions for name in action.option_strings)


def script(parser, commands, shell):
    """`commands`: {name: parser}."""
    with_value = [name for action in parser._actions for name in action.option_strings if action.nargs is None and action.option_strings]
    cases = "\n".join(f'    {name}) options="{" ".join(option_names(one))}" ;;' for name, one in sorted(commands.items()))
    return SCRIPT.format(prog=parser.prog, shell=shell, prelude=PRELUDE[shell], with_value="|".join(sorted(with_value)), commands=" ".join(sorted(commands)),
                         global_options=" ".join(option_names(parser)), cases=cases)
