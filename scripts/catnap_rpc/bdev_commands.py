"""Commands of block devices."""

from .client import RpcFailure
from .command import Arg, Command, flag, names, number, on_or_off

MIB = 1024 * 1024
UUID = Arg("-u", "--uuid", help="UUID of the bdev; made up without it")


def blocks_of_size(params):
    """Sizes are given in MiB and sent in blocks, rounded down."""
    total_mib = params.pop("total_size")
    block_size = params["block_size"]
    if block_size <= 0:
        raise RpcFailure(f"block_size is {block_size}, it must be more than 0")
    params["num_blocks"] = int(total_mib * MIB) // block_size
    return params


def named(method, help_text, shows=False):
    return Command(method, help_text, Arg("name", help="name of the bdev"), shows=shows)


def metadata_args():
    return [number("-m", "--md-size", help="bytes of metadata per block"),
            number("-t", "--dif-type", choices=[0, 1, 2, 3], help="type of protection information"),
            flag("-d", "--dif-is-head-of-md", help="protection information is in the first 8 bytes of the metadata"),
            number("-f", "--dif-pi-format", choices=[0, 1, 2], help="guard of 16, 32 or 64 bits")]


COMMANDS = [
    Command("bdev_get_bdevs", "Show all bdevs, or one",
            Arg("-b", "--name", help="name of the bdev"),
            number("-t", "--timeout-ms", to="timeout", help="time to wait for the bdev to appear"), shows=True),
    Command("bdev_get_iostat", "Show I/O statistics",
            Arg("-b", "--name", help="name of the bdev; all without it"),
            Arg("--names", type=names, help="names, separated by commas"),
            flag("-c", "--per-channel", help="per channel of the one bdev named"),
            Arg("--reset-mode", choices=["all", "maxmin", "error", "none"], help="what to reset after reading"), shows=True),
    Command("bdev_reset_iostat", "Set I/O statistics to zero", Arg("-b", "--name", help="name of the bdev; all without it"),
            Arg("-m", "--mode", choices=["all", "maxmin", "error", "none"], help="what to reset")),
    Command("bdev_wait_for_examine", "Wait until all bdevs are examined"),
    Command("bdev_malloc_create", "Make a bdev in memory",
            Arg("-b", "--name", help="name; MallocN without it"), UUID,
            Arg("total_size", type=float, help="size in MiB"),
            number("block_size", help="bytes per block"),
            number("-p", "--physical-block-size", help="bytes"),
            number("-o", "--optimal-io-boundary", help="blocks"),
            flag("-i", "--md-interleave", help="metadata within the blocks"),
            number("-n", "--numa-id", help="NUMA node of the memory"),
            *metadata_args(), build=blocks_of_size, shows=True),
    named("bdev_malloc_delete", "Remove a malloc bdev"),
    Command("bdev_null_create", "Make a bdev that forgets what is written",
            Arg("name", help="name of the bdev"), UUID,
            number("total_size", help="size in MiB"),
            number("block_size", help="bytes per block"),
            number("-p", "--physical-block-size", help="bytes"),
            number("-a", "--preferred-write-alignment", help="blocks"),
            number("-g", "--preferred-write-granularity", help="blocks"),
            number("-s", "--optimal-write-size", help="blocks"),
            number("-c", "--preferred-unmap-alignment", help="blocks"),
            number("-r", "--preferred-unmap-granularity", help="blocks"),
            *metadata_args(), build=blocks_of_size, shows=True),
    named("bdev_null_delete", "Remove a null bdev"),
    Command("bdev_null_resize", "Give a null bdev another size", Arg("name", help="name of the bdev"), number("new_size", help="MiB"), shows=True),
    Command("bdev_aio_create", "Make a bdev upon a file or device through libaio",
            Arg("filename", help="path"), Arg("name", help="name of the bdev"),
            number("block_size", nargs="?", help="bytes per block; the device's without it"),
            flag("-r", "--readonly", help="refuse writes"), on_or_off("--fallocate", help="unmap and write zeroes by fallocate"), UUID,
            flag("--no-wait", to="nowait", help="RWF_NOWAIT"), shows=True),
    named("bdev_aio_rescan", "Take over the present size of the file", shows=True),
    named("bdev_aio_delete", "Remove an aio bdev; its file stays"),
    Command("bdev_uring_create", "Make a bdev upon a file or device through io_uring",
            Arg("filename", help="path"), Arg("name", help="name of the bdev"),
            number("block_size", nargs="?", help="bytes per block; the device's without it"), UUID,
            flag("-r", "--readonly", help="refuse writes"), shows=True),
    named("bdev_uring_rescan", "Take over the present size of the file", shows=True),
    named("bdev_uring_delete", "Remove a uring bdev; its file stays"),
]
