"""Commands about any block device: limits, time-outs, histograms, examination; data buffers; notifications."""

from .command import Arg, Command, flag, number, on_or_off


def bdev(help_text="name, alias or UUID of the bdev"):
    return Arg("name", help=help_text)


def borders(text):
    return [int(border) for border in text.split(",")]


COMMANDS = [
    Command("bdev_set_options", "Set options of the block layer",
            number("-p", "--bdev-io-pool-size", help="no effect"), number("-c", "--bdev-io-cache-size", help="no effect"),
            on_or_off("--auto-examine", to="bdev_auto_examine", help="whether modules that stack by themselves look at every new bdev"),
            number("--iobuf-small-cache-size", help="no effect"), number("--iobuf-large-cache-size", help="no effect")),
    Command("bdev_examine", "Have the modules that stack by themselves look at a bdev", Arg("-b", "--name", required=True, help="name of the bdev")),
    Command("bdev_set_qos_limit", "Limit the rates of a bdev; 0 is no limit", bdev(),
            number("--rw-ios-per-sec", help="reads and writes per second"),
            number("--rw-mbytes-per-sec", help="MiB read and written per second"),
            number("--r-mbytes-per-sec", help="MiB read per second"),
            number("--w-mbytes-per-sec", help="MiB written per second")),
    Command("bdev_set_timeout", "Have I/Os reported that are not answered in time", bdev(), number("timeout_us", help="microseconds; 0: no time-out")),
    Command("bdev_get_timeouts", "Show time-outs, and how many I/Os were not answered in time", Arg("-b", "--name", help="name of the bdev; all without it"),
            shows=True),
    Command("bdev_set_qd_sampling_period", "Keep the queue depth of a bdev over time", bdev(), number("period", help="microseconds; 0: off")),
    Command("bdev_enable_histogram", "Count latencies of a bdev by size, or no more", bdev(),
            on_or_off("--histogram", to="enable", required=True, help="count, from zero, or no more"),
            Arg("-o", "--opc", help="only I/Os of this type"),
            number("--granularity", help="each power of two has 2^granularity buckets"),
            number("--min-nsec", help="shorter ones count in the first bucket"), number("--max-nsec", help="longer ones count in the last bucket")),
    Command("bdev_get_histogram", "Show the latency histogram of a bdev", bdev(), shows=True),
    Command("bdev_get_histogram_borders", "Show how many I/Os of a bdev took at most so long", bdev(),
            Arg("--borders", type=borders, required=True, help="microseconds, rising, separated by commas"), shows=True),
    Command("iobuf_set_options", "Bound the memory of data buffers",
            number("--small-pool-count", help="number of small buffers"), number("--large-pool-count", help="number of large buffers"),
            number("--small-bufsize", help="bytes"), number("--large-bufsize", help="bytes"), flag("--enable-numa", help="no effect")),
    Command("iobuf_get_stats", "Show the data buffers of every reactor", shows=True),
    Command("notify_get_types", "Show what kinds of events there are", shows=True),
    Command("notify_get_notifications", "Show what happened, or wait until something does",
            number("-i", "--id", help="number of the first event wanted"), number("-n", "--max", help="most events wanted"),
            number("-w", "--wait-ms", help="milliseconds to wait for the first when there is none"), shows=True),
]
