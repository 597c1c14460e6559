"""Commands of the keyring: keys that come from files."""

from .command import Arg, Command

COMMANDS = [
    Command("keyring_file_add_key", "Make the contents of a file usable as a key", Arg("name", help="name of the key"),
            Arg("path", help="absolute path of a file that only catnapd's user can touch")),
    Command("keyring_file_remove_key", "Forget a key", Arg("name", help="name of the key")),
    Command("keyring_get_keys", "Show which keys there are, not what they are", shows=True),
]
