"""Commands about paths, discovery, passthrough and error injection of attached NVMe controllers."""

from .command import Arg, Command, flag, number


def bdev():
    return Arg("-b", "--name", required=True, help="name of the bdev")


def controller():
    return Arg("-n", "--nvme-name", dest="name", required=True, help="name of the controller")


def command_type():
    return Arg("-t", "--cmd-type", choices=["admin", "io"], required=True, help="which queue the command goes to")


def opcode():
    return number("-o", "--opc", required=True, help="opcode of the command")


COMMANDS = [
    Command("bdev_nvme_start_discovery", "Follow the log of a discovery controller",
            Arg("-b", "--name", required=True, help="name of the service, and beginning of its controllers' names"),
            Arg("-t", "--trtype", required=True, help="tcp"), Arg("-a", "--traddr", required=True, help="address of the discovery controller"),
            Arg("-f", "--adrfam", help="ipv4 or ipv6"), Arg("-s", "--trsvcid", help="port of the discovery controller"),
            Arg("-q", "--hostnqn", help="NQN as which to connect"),
            flag("-w", "--wait-for-attach", help="return when all that the log shows is attached"),
            number("-T", "--attach-timeout-ms", help="return then at the latest, and give up"),
            number("-l", "--ctrlr-loss-timeout-sec", help="seconds until a lost controller is removed; -1: never, 0: it is not tried again"),
            number("-o", "--reconnect-delay-sec", help="seconds between two attempts to connect again"),
            number("-u", "--fast-io-fail-timeout-sec", help="seconds until I/O to a lost controller fails; 0: it waits"),
            Arg("--psk", help="name of the key for TLS"), number("--psk-identity-version", help="0 or 1; without it 1, then 0")),
    Command("bdev_nvme_stop_discovery", "End a discovery service and detach what it attached", Arg("-b", "--name", required=True, help="name of the service")),
    Command("bdev_nvme_get_discovery_info", "Show the discovery services", shows=True),
    Command("bdev_nvme_get_io_paths", "Show the paths of NVMe bdevs", Arg("-n", "--name", help="name of the bdev; all without it"), shows=True),
    Command("bdev_nvme_set_preferred_path", "Prefer the path over one controller", bdev(),
            number("-c", "--cntlid", help="controller id of the path"),
            Arg("-a", "--traddr", help="address of the path, instead of its controller id"), Arg("-s", "--trsvcid", help="port of that address")),
    Command("bdev_nvme_set_multipath_policy", "Set how the paths of a bdev share its I/O", bdev(),
            Arg("-p", "--policy", choices=["active_passive", "active_active"], required=True, help="one path while it works, or all at once"),
            Arg("-s", "--selector", choices=["round_robin", "queue_depth"], help="how active_active chooses"),
            number("-r", "--rr-min-io", help="round_robin: I/Os per path and turn")),
    Command("bdev_nvme_get_path_iostat", "Show what went over each path of a bdev", bdev(), shows=True),
    Command("bdev_nvme_get_transport_statistics", "Show what the queue pairs of attached controllers did", shows=True),
    Command("bdev_nvme_get_controller_health_info", "Show the health log of a controller",
            Arg("-c", "--name", required=True, help="name of the controller"), shows=True),
    Command("bdev_nvme_send_cmd", "Send a command to a controller as it is", controller(), command_type(),
            Arg("-r", "--data-direction", choices=["c2h", "h2c"], required=True, help="whether data comes back or is sent"),
            Arg("-c", "--cmdbuf", required=True, help="the command's 64 bytes, base64 in the URL safe alphabet"),
            Arg("-d", "--data", help="data to send, in the same way"), Arg("-m", "--metadata", help="refused: there is no metadata"),
            number("-D", "--data-length", dest="data_len", help="bytes of data that come back"),
            number("-M", "--metadata-length", dest="metadata_len", help="refused unless 0"),
            number("-T", "--timeout-ms", help="how long the answer is waited for"), shows=True),
    Command("bdev_nvme_add_error_injection", "Have commands of an opcode fail", controller(), command_type(), opcode(),
            flag("-s", "--do-not-submit", help="the controller does not see the command"),
            number("-w", "--timeout-in-us", help="when the command is not submitted: microseconds until it fails"),
            number("-e", "--err-count", help="how many commands"), number("-u", "--sct", help="status code type"), number("-c", "--sc", help="status code")),
    Command("bdev_nvme_remove_error_injection", "Let commands of an opcode be", controller(), command_type(), opcode()),
    Command("bdev_nvme_apply_firmware", "Refused in words: NVMe/TCP controllers get their firmware elsewhere",
            Arg("filename", help="file with the firmware"), Arg("bdev_name", help="name of the bdev")),
    Command("bdev_nvme_set_keys", "Change the keys of a controller; live connections authenticate with them", Arg("name", help="name of the controller"),
            Arg("--dhchap-key", help="name of a key"), Arg("--dhchap-ctrlr-key", help="name of the controller's key")),
]
