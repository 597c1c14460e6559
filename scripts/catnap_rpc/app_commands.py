"""Commands of the process itself: methods, version, reactors, threads, log."""

from .command import Arg, Command, flag, number, on_or_off

LEVELS = ["ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", "DISABLED"]
SIGNALS = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1"]


def timestamps(params):
    # -e and -d are the older spellings.
    params.setdefault("enabled", True)
    return params


def interrupt_unless_disabled(params):
    params.setdefault("disable_interrupt", False)
    return params


COMMANDS = [
    Command("rpc_get_methods", "List the methods of the server",
            flag("-c", "--current", help="only those that may be called now"),
            flag("-i", "--include-aliases", help="deprecated names too"), shows=True),
    Command("rpc_get_schema", "Show every method with its parameters, bounds and help", shows=True),
    Command("spdk_get_version", "Show name and version of the server", shows=True),
    Command("spdk_kill_instance", "Send a signal to the server; SIGTERM and SIGINT end it in good order",
            Arg("sig_name", type=str.upper, choices=SIGNALS, metavar="sig_name", help=", ".join(SIGNALS))),
    Command("framework_start_init", "Initialize the subsystems (catnapd --wait-for-rpc)"),
    Command("framework_wait_init", "Wait until the subsystems are initialized"),
    Command("framework_get_subsystems", "List subsystems, those first that others depend on", shows=True),
    Command("framework_get_config", "Show the configuration of a subsystem", Arg("name", help="subsystem"),
            on_or_off("--with-batches", help="no effect: the configuration holds no batches"), shows=True),
    Command("framework_get_reactors", "Show reactors, their time and what wakes them", shows=True),
    Command("thread_get_stats", "Show the threads' time and pollers", shows=True),
    Command("thread_get_pollers", "Show the pollers of every thread", shows=True),
    Command("thread_get_io_channels", "Show the I/O channels of every thread", shows=True),
    Command("reactor_set_mode", "Change how reactors wait for work", Arg("mode", choices=["adaptive", "interrupt", "poll"]),
            number("-l", "--lcore", help="CPU of the reactor; all when absent")),
    Command("reactor_set_interrupt_mode", "Put a reactor into interrupt mode, or back into poll mode", number("lcore", help="CPU of the reactor"),
            flag("-d", "--disable-interrupt", help="poll mode"), build=interrupt_unless_disabled),
    Command("reactor_get_wakeups", "Show why reactors woke up, and who wakes them most",
            number("-n", "--limit", help="names per reactor (default 32)"), shows=True),
    Command("poller_set_period", "Change how often pollers run", number("period_us", help="microseconds; 0: busy, with --allow-busy"),
            number("-i", "--id", help="id of the poller"), Arg("-n", "--name", help="name of the pollers"),
            Arg("-t", "--thread", help="name of the thread; any without it"),
            flag("--allow-busy", help="period 0 is meant: the reactor will not sleep"), shows=True),
    Command("framework_set_adaptive_options", "Bound how long adaptive reactors look for work before they sleep",
            number("max_spin_us", help="microseconds"), number("-l", "--lcore", help="CPU of the reactor; all when absent")),
    Command("framework_monitor_context_switch", "Log context switches of reactors, or show whether that is on",
            on_or_off("--monitor", to="enabled", help="on or off; only asks without it"), shows=True),
    Command("thread_set_cpumask", "Set where a thread may run, and move it there", number("-i", "--id", required=True, help="id of the thread"),
            Arg("-m", "--cpumask", required=True, help="CPUs of reactors")),
    Command("thread_set_mode", "Change how a thread's reactor waits for its sake", Arg("mode", choices=["inherit", "poll", "interrupt", "adaptive"]),
            number("-i", "--id", help="id of the thread"), Arg("-n", "--name", help="name of the thread")),
    Command("framework_set_scheduler", "Choose the scheduler of threads and its period",
            Arg("name", help="static: threads stay where they are; dynamic: they move by load"), number("-p", "--period", help="microseconds"),
            number("--load-limit", help="load of a thread in percent from which it may move (dynamic only)"),
            number("--core-limit", help="load of a core in percent from which it is full (dynamic only)"),
            number("--core-busy", help="load of a core in percent from which threads leave it (dynamic only)"),
            number("--idle-periods", help="calm periods after which a thread is idle (dynamic only)"),
            number("--move-gain", help="percentage points that a move must win (dynamic only)"),
            number("--settle-periods", help="periods for which a moved thread stays (dynamic only)"),
            Arg("--mappings", help="thread:core pairs, separated by commas (static only)")),
    Command("scheduler_set_options", "Choose the cores that the dynamic scheduler treats in a special way",
            number("--scheduling-core", help="CPU where idle threads gather"),
            Arg("--isolated-core-mask", help="CPUs that keep their threads and get no others")),
    Command("framework_get_scheduler", "Show the scheduler of threads", shows=True),
    Command("framework_get_governor", "Show what governs CPU frequencies", shows=True),
    Command("log_set_flag", "Switch a log flag on", Arg("flag", help='name, or "all"')),
    Command("log_clear_flag", "Switch a log flag off", Arg("flag", help='name, or "all"')),
    Command("log_get_flags", "Show log flags", shows=True),
    Command("log_set_level", "Set the log level", Arg("level", type=str.upper, choices=LEVELS)),
    Command("log_get_level", "Show the log level", shows=True),
    Command("log_set_print_level", "Set the level of what goes to standard error", Arg("level", type=str.upper, choices=LEVELS)),
    Command("log_get_print_level", "Show the level of what goes to standard error", shows=True),
    Command("log_enable_timestamps", "Switch time stamps on or off",
            on_or_off("--timestamps", to="enabled", help="on (also -e) or off (also -d)"),
            flag("-e", "--enable", to="enabled", help="on"), flag("-d", "--disable", to="enabled", value=False, help="off"), build=timestamps),
]
