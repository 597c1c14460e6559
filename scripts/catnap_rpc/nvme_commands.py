"""Commands of the NVMe/TCP initiator: SPDK's names and flags."""

from .command import Arg, Command, flag, names, number, on_or_off

ADDRESS = [
    Arg("-t", "--trtype", help="TCP"),
    Arg("-a", "--traddr", help="address of the controller, in numbers"),
    Arg("-f", "--adrfam", help="ipv4 or ipv6"),
    Arg("-s", "--trsvcid", help="port"),
]
HOST_ADDRESS = [
    Arg("-i", "--hostaddr", help="local address to connect from"),
    Arg("-c", "--hostsvcid", help="local port to connect from"),
]
LOSS = [
    number("-l", "--ctrlr-loss-timeout-sec", help="seconds until a lost controller is given up; -1: never, 0: no reconnect by itself"),
    number("-o", "--reconnect-delay-sec", help="seconds between attempts to reconnect"),
    number("-u", "--fast-io-fail-timeout-sec", help="seconds until I/O that waits for a lost controller fails; 0: not before it is given up"),
]
MULTIPATH = [
    Arg("--policy", to="multipath_opts.policy", choices=["active_passive", "active_active"], help="one path at a time, or all"),
    Arg("--selector", to="multipath_opts.selector", choices=["round_robin", "queue_depth"], help="in turn, or the least busy"),
    number("--min-io", to="multipath_opts.min_io", help="I/Os per path and turn (round_robin)"),
]
NAME = Arg("name", help="name of the controller")
CNTLID = number("-c", "--cntlid", help="only the path with this controller id")

COMMANDS = [
    Command("bdev_nvme_attach_controller", "Attach an NVMe/TCP controller, or add a path to one",
            Arg("-b", "--name", required=True, help="name of the controller; bdevs are called NAMEn1 and so on"),
            Arg("-t", "--trtype", required=True, help="TCP"),
            Arg("-a", "--traddr", required=True, help="address of the controller, in numbers"),
            Arg("-f", "--adrfam", help="ipv4 or ipv6"),
            Arg("-s", "--trsvcid", help="port"),
            Arg("-p", "--priority", help="SO_PRIORITY of the connections"),
            Arg("-n", "--subnqn", help="NQN of the subsystem"),
            Arg("-q", "--hostnqn", help="NQN of this host"), *HOST_ADDRESS,
            flag("-r", "--prchk-reftag", help="refused: protection information is not supported"),
            flag("-g", "--prchk-guard", help="refused: protection information is not supported"),
            flag("-e", "--hdgst", help="header digests"),
            flag("-d", "--ddgst", help="data digests"),
            number("--fabrics-timeout", to="fabrics_connect_timeout_us", help="microseconds for each step of connecting"),
            Arg("-x", "--multipath", choices=["disable", "failover", "multipath"], help="what a second address is: refused, a reserve, a path of its own"),
            number("--num-io-queues", help="I/O queues asked for at most"), *LOSS,
            Arg("-k", "--psk", help="name of the key for TLS"),
            number("--psk-identity-version", help="0 or 1; without it 1, and 0 where the controller refuses that"),
            number("-m", "--max-bdevs", help="of SPDK, no effect"),
            Arg("--dhchap-key", help="name of the key with which this host authenticates itself"),
            Arg("--dhchap-ctrlr-key", help="name of the key with which the controller must authenticate itself"),
            flag("-U", "--allow-unrecognized-csi", help="refused: only the NVM command set is supported"), *MULTIPATH,
            on_or_off("--disable-sq-flow-control", help="queues without SQ flow control"),
            Arg("--hostid", help="UUID of this host"), shows=True),
    Command("bdev_nvme_detach_controller", "Detach a controller, or one path of it", NAME, *ADDRESS,
            Arg("-n", "--subnqn", help="NQN of the subsystem"), *HOST_ADDRESS),
    Command("bdev_nvme_get_controllers", "Show attached controllers", Arg("-n", "--name", help="only this one"), shows=True),
    Command("bdev_nvme_reset_controller", "Connect anew", NAME, CNTLID),
    Command("bdev_nvme_enable_controller", "Connect a disabled controller again", NAME, CNTLID),
    Command("bdev_nvme_disable_controller", "Disconnect a controller until it is enabled", NAME, CNTLID),
    Command("bdev_nvme_set_options", "Set options of all NVMe controllers; what is not given stays",
            Arg("-a", "--action-on-timeout", choices=["none", "reset", "abort"], help="what becomes of a late command"),
            number("-t", "--timeout-us", help="microseconds until an I/O command is late; 0: never"),
            number("--timeout-admin-us", help="the same for admin commands; 0: as timeout-us"),
            number("-k", "--keep-alive-timeout-ms", help="KATO of new connections"),
            number("--arbitration-burst", help="of SPDK, no effect"),
            number("--low-priority-weight", help="of SPDK, no effect"),
            number("--medium-priority-weight", help="of SPDK, no effect"),
            number("--high-priority-weight", help="of SPDK, no effect"),
            number("-p", "--nvme-adminq-poll-period-us", help="0 and 10000: event driven; else the period of looking at admin queues"),
            number("-i", "--nvme-ioq-poll-period-us", help="0: event driven; else the period of looking at I/O queues"),
            number("-s", "--io-queue-requests", help="depth of new I/O queues; 0: 128"),
            flag("-d", "--disable-delay-cmd-submit", to="delay_cmd_submit", value=False, help="of SPDK, no effect"),
            number("-c", "--transport-retry-count", help="of SPDK, no effect"),
            number("-r", "--bdev-retry-count", help="how often an I/O is tried again; -1: without limit"),
            number("-e", "--transport-ack-timeout", help="n: unacknowledged bytes end a connection after 2^n ms; 0: the system's"), *LOSS,
            flag("-f", "--disable-auto-failback", help="keep to a path that works although a better one came back"),
            flag("--generate-uuids", help="UUIDs that stay the same for namespaces that have none"),
            number("--transport-tos", help="of SPDK, no effect"),
            flag("-m", "--nvme-error-stat", help="of SPDK, no effect"),
            number("-q", "--rdma-srq-size", help="of SPDK, no effect"),
            flag("--io-path-stat", help="count I/O per path"),
            flag("--allow-accel-sequence", help="of SPDK, no effect"),
            number("--rdma-max-cq-size", help="of SPDK, no effect"),
            number("--rdma-cm-event-timeout-ms", help="of SPDK, no effect"),
            Arg("--dhchap-digests", type=names, help="hashes offered, separated by commas"),
            Arg("--dhchap-dhgroups", type=names, help="groups offered, separated by commas"),
            on_or_off("--rdma-umr-per-io", help="of SPDK, no effect"),
            number("--tcp-connect-timeout-ms", help="milliseconds until a TCP connection is there; 0: 5 s"),
            on_or_off("--enable-flush", help="no effect: flushes always go to controllers with a volatile cache"), *MULTIPATH),
]
