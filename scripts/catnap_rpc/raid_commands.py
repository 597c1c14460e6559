"""Commands of arrays: raid0, raid1 and concat."""

from .bdev_commands import UUID
from .command import Arg, Command, flag, number

LEVELS = ["raid0", "0", "raid1", "1", "raid5f", "5f", "concat"]
NAME = Arg("name", help="name of the array")

COMMANDS = [
    Command("bdev_raid_create", "Make an array of bdevs",
            Arg("-n", "--name", required=True, help="name of the array"),
            number("-z", "--strip-size-kb", help="KiB of a strip; raid0 and concat only"),
            Arg("-r", "--raid-level", required=True, choices=LEVELS, help="level"),
            Arg("-b", "--base-bdevs", required=True, type=str.split, help="names of the members in one argument, separated by blanks; they may come later"),
            UUID,
            flag("-s", "--superblock", help="keep a superblock on every member"),
            Arg("--bitmap-bdev", help="raid1 without superblock: bdev that holds the write-intent bitmap"),
            Arg("--bitmap-file", help="raid1 without superblock: file that holds the write-intent bitmap"),
            number("--bitmap-region-kb", help="raid1: KiB that one mark of the bitmap stands for"),
            flag("--assume-clean", help="raid1: the members are equal already, nothing is copied"),
            Arg("--out-of-sync", type=str.split, help="raid1 without superblock and bitmap: members that do not hold all data, separated by blanks"),
            shows=True),
    Command("bdev_raid_delete", "Remove an array; its members stay", NAME,
            flag("-c", "--clear-sb", help="clear the superblocks on the members too"), shows=True),
    Command("bdev_raid_start", "Start an array without members that are missing, although they may hold newer data", NAME, shows=True),
    Command("bdev_raid_take_over", "Bring the array of another host here", Arg("base_bdev", help="name of one of its members"), shows=True),
    Command("bdev_raid_get_bdevs", "List arrays with their members and what is going on",
            Arg("category", choices=["all", "online", "configuring", "offline"], help="which"), shows=True),
    Command("bdev_raid_add_base_bdev", "Take a bdev into an array",
            Arg("raid_bdev", help="name of the array"), Arg("base_bdev", help="name of the bdev"), shows=True),
    Command("bdev_raid_remove_base_bdev", "Take a member out of its array",
            Arg("name", help="name of the member"),
            Arg("-r", "--raid-bdev", help="name of the array; found without it"), shows=True),
    Command("bdev_raid_grow_base_bdev", "Have an array grow after its members have",
            Arg("raid_name", help="name of the array"),
            Arg("base_name", nargs="?", help="name of a member that has grown"), shows=True),
    Command("bdev_raid_set_options", "Set how rebuild, resync and scrub of all arrays go",
            number("-w", "--process-window-size-kb", help="KiB of one step"),
            number("-b", "--process-max-bandwidth-mb-sec", help="MiB per second at most; 0: no limit")),
    Command("bdev_raid_get_bitmap", "Show the write-intent bitmap of an array", NAME,
            flag("--ranges", help="with the marked regions"), shows=True),
    Command("bdev_raid_start_scrub", "Compare all members of an array with each other", NAME,
            flag("--repair", help="make members equal where they differ"),
            number("-b", "--max-bandwidth-mb-sec", help="MiB per second at most"), shows=True),
    Command("bdev_raid_stop_scrub", "End a scrub before it is through", NAME, shows=True),
]
