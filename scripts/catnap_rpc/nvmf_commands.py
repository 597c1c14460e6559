"""Commands of the NVMe-oF target."""

from .command import Arg, Command, flag, names, number, on_or_off

DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
PASSTHRU = ("identify_ctrlr", "identify_uuid_list", "get_log_page", "get_set_features", "sanitize", "security_send_recv", "fw_update", "nvme_mi",
            "vendor_specific")

ANA_STATES = ["optimized", "non_optimized", "inaccessible", "persistent_loss", "change"]


def nqn():
    return Arg("nqn", help="NQN of the subsystem")


def target(*flags):
    return Arg(*flags, "--tgt-name", help="name of the target; there is one")


def address(member="listen_address"):
    return [Arg("-t", "--trtype", to=f"{member}.trtype", required=True, help="transport type, tcp"),
            Arg("-a", "--traddr", to=f"{member}.traddr", required=True, help="IP address"),
            Arg("-f", "--adrfam", to=f"{member}.adrfam", help="ipv4 or ipv6"),
            Arg("-s", "--trsvcid", to=f"{member}.trsvcid", help="TCP port")]


def referral():
    return [*address("address"), target("-p"), Arg("-n", "--subnqn", help="NQN there; without it the discovery NQN")]


def visibility():
    return [nqn(), number("nsid", help="namespace id"), Arg("host", help="NQN of the host"), target("-t")]


def discovery_shortcut(params):
    if params["nqn"] == "discovery":
        params["nqn"] = DISCOVERY_NQN
    return params


def passthru_set(params):
    chosen = params.pop("admin_cmd_passthru", None)
    if chosen:
        params["admin_cmd_passthru"] = {name: True for name in (PASSTHRU if "all" in chosen else chosen)}
    return params


FURTHER_PSKS = Arg("--further-psks", type=names, help="names of TLS keys that are valid as well, separated by commas")
TRANSPORT_ARGS = [
    Arg("-t", "--trtype", required=True, help="transport type, TCP"),
    target("-g"),
    number("-q", "--max-queue-depth", help="entries of an I/O queue"),
    number("-m", "--max-io-qpairs-per-ctrlr", help="I/O queues of a controller"),
    number("-c", "--in-capsule-data-size", help="bytes of data a command capsule may carry"),
    number("-i", "--max-io-size", help="largest I/O in bytes"),
    number("-u", "--io-unit-size", help="bytes; kept for old scripts"),
    number("-a", "--max-aq-depth", help="entries of an admin queue"),
    number("-n", "--num-shared-buffers", help="kept for old scripts"),
    number("-b", "--buf-cache-size", help="kept for old scripts"),
    number("--iobuf-small-cache-size", help="kept for old scripts"),
    number("--iobuf-large-cache-size", help="kept for old scripts"),
    flag("-z", "--zcopy", help="lend memory of bdevs where possible"),
    flag("-o", "--c2h-success", value=False, help="always send a response after read data"),
    flag("-f", "--dif-insert-or-strip", help="protection information"),
    number("-y", "--sock-priority", help="SO_PRIORITY of connections"),
    number("-l", "--acceptor-backlog", help="kept for old scripts"),
    number("-x", "--abort-timeout-sec", help="seconds an Abort may take"),
    number("-e", "--control-msg-num", help="kept for old scripts"),
    number("-d", "--num-cqe", help="RDMA only"),
    number("-s", "--max-srq-depth", help="RDMA only"),
    flag("-r", "--no-srq", help="RDMA only"),
    flag("-w", "--no-wr-batching", help="RDMA only"),
    number("--acceptor-poll-rate", help="kept for old scripts"),
    number("--ack-timeout", help="milliseconds"),
    number("--data-wr-pool-size", help="RDMA only"),
    flag("--disable-command-passthru", help="kept for old scripts"),
    number("--kas", help="keep-alive granularity in units of 100 ms"),
    number("--min-kato", help="shortest keep-alive time-out in ms"),
    Arg("--masked-oncs", type=names, help="optional commands hosts are not offered, separated by commas, or all"),
    Arg("--masked-fuses", type=names, help="fused operations hosts are not offered, separated by commas, or all"),
    number("--icreq-timeout-ms", help="a connection without ICReq ends after this"),
    number("--connect-timeout-ms", help="a connection without a successful Connect ends after this"),
    number("--pdu-timeout-ms", help="a connection ends when half a PDU is all there is after this"),
    number("--r2t-timeout-ms", help="a connection ends when an R2T is not answered after this"),
    number("--stall-timeout-ms", help="a host that takes or sends nothing ends after this when others wait for its buffers"),
    number("--term-linger-ms", help="after C2HTermReq the host has this long to close"),
    number("--max-half-open", help="connections that have not finished Connect"),
    number("--max-half-open-per-host", help="of these, from one address"),
    number("--max-connections-per-host", help="connections from one address; 0: no limit of its own"),
    number("--max-buffered-bytes", help="in-capsule data of a connection beside the buffer pool"),
    number("--tls-handshake-timeout-ms", help="a TLS handshake that has not ended after this is given up"),
    number("--max-tls-handshakes", help="TLS handshakes under way"),
    on_or_off("--enable-ktls", help="let the kernel encrypt where it can"),
]

COMMANDS = [
    Command("nvmf_set_max_subsystems", "Set how many subsystems there may be", number("-x", "--max-subsystems", required=True)),
    Command("nvmf_set_config", "Set options of the whole target",
            Arg("-p", "--passthru-admin-cmds", to="admin_cmd_passthru", type=names, help="names separated by commas, or all"),
            Arg("-m", "--poll-groups-mask", help="CPUs of poll groups"),
            flag("--prefer-incoming-cpu", help="place connections near the CPU where their packets arrive, among equals"),
            Arg("-d", "--discovery-filter", help="as --discovery-filters, one name"),
            Arg("--discovery-filters", type=names, help="match_any, transport, address, svcid; separated by commas"),
            Arg("--dhchap-digests", type=names, help="separated by commas"),
            Arg("--dhchap-dhgroups", type=names, help="separated by commas"),
            Arg("--dup-host-policy", choices=["allow", "restrict_per_listener"], help="when a host connects twice"),
            Arg("--discovery-nqn", help="what the discovery subsystem calls itself besides the well-known NQN"), build=passthru_set),
    Command("nvmf_set_crdt", "Set Command Retry Delay Times, in units of 100 ms", number("-t1", "--crdt1"), number("-t2", "--crdt2"),
            number("-t3", "--crdt3")),
    Command("nvmf_create_target", "Refused: there is one target in a process", Arg("name", help="name of the target"),
            number("-m", "--max-subsystems"), Arg("--discovery-filter"), Arg("--dup-host-policy"), shows=True),
    Command("nvmf_delete_target", "Refused: the target lives as long as the process", Arg("name", help="name of the target")),
    Command("nvmf_get_targets", "Show the names of the targets", shows=True),
    Command("nvmf_create_transport", "Make a transport", *TRANSPORT_ARGS),
    Command("nvmf_get_transports", "Show transports", Arg("--trtype", help="only this one"), target("-t"), shows=True),
    Command("nvmf_create_subsystem", "Make a subsystem", nqn(), target("-t"),
            Arg("-s", "--serial-number", help="at most 20 characters"),
            Arg("-d", "--model-number", help="at most 40 characters"),
            flag("-a", "--allow-any-host", help="any host may connect"),
            number("-m", "--max-namespaces"),
            flag("-r", "--ana-reporting", help="report asymmetric namespace access"),
            number("-i", "--min-cntlid", help="lowest controller id"),
            number("-I", "--max-cntlid", help="highest controller id"),
            number("--max-discard-size-kib", help="older than --dmrsl"),
            number("--max-write-zeroes-size-kib", help="older than --wzsl"),
            number("--dmrsl", help="blocks per dataset management range"),
            number("--wzsl", help="largest write zeroes, as a power of two of pages"),
            flag("-p", "--passthrough", help="pass commands to NVMe bdevs"),
            flag("-n", "--enable-nssr", help="NVM subsystem reset"),
            Arg("--admin-label", help="label in extended discovery entries")),
    Command("nvmf_delete_subsystem", "Remove a subsystem", nqn(), target("-t")),
    Command("nvmf_get_subsystems", "Show subsystems", Arg("nqn", nargs="?", help="only this one"), target("-t"), shows=True),
    Command("nvmf_subsystem_add_listener", "Let a subsystem be reached at an address", nqn(), *address(), target("-p"),
            flag("-k", "--secure-channel", help="by TLS only"),
            Arg("--secure-concatenation", choices=["none", "allowed", "required"], help="TLS with keys that hosts make by authenticating first"),
            Arg("-n", "--ana-state", choices=ANA_STATES, help="of all groups"),
            Arg("-S", "--sock-impl", help="kept for old scripts"), number("--numa-id", help="vfio-user only"), build=discovery_shortcut),
    Command("nvmf_subsystem_remove_listener", "Take an address from a subsystem", nqn(), *address(), target("-p"), build=discovery_shortcut),
    Command("nvmf_subsystem_get_listeners", "Show where a subsystem can be reached", nqn(), target("-t"), shows=True),
    Command("nvmf_subsystem_listener_set_ana_state", "Set the ANA state of one group, or of all, at a listener", nqn(),
            Arg("-n", "--ana-state", required=True, choices=ANA_STATES), *address(), target("-p"),
            number("-g", "--anagrpid", help="ANA group; without it all")),
    Command("nvmf_subsystem_set_ns_ana_group", "Move a namespace to another ANA group", nqn(), number("nsid", help="namespace id"),
            number("anagrpid", help="ANA group"), target("-t")),
    Command("nvmf_subsystem_add_ns", "Add a bdev to a subsystem as a namespace", nqn(),
            Arg("bdev_name", to="namespace.bdev_name", help="name of the bdev"), target("-t"),
            number("-n", "--nsid", to="namespace.nsid", help="namespace id; the lowest free one without it"),
            Arg("-g", "--nguid", to="namespace.nguid", help="16 bytes in hexadecimal"),
            Arg("-e", "--eui64", to="namespace.eui64", help="8 bytes in hexadecimal"),
            Arg("-u", "--uuid", to="namespace.uuid"),
            number("-a", "--anagrpid", to="namespace.anagrpid", help="ANA group"),
            flag("-i", "--no-auto-visible", to="namespace.no_auto_visible", help="hosts do not see it by themselves"),
            flag("-N", "--hide-metadata", to="namespace.hide_metadata", help="kept for old scripts"),
            Arg("-p", "--ptpl-file", to="namespace.ptpl_file", help="file of persistent reservations")),
    Command("nvmf_subsystem_remove_ns", "Remove a namespace from a subsystem", nqn(), number("nsid", help="namespace id"), target("-t")),
    Command("nvmf_ns_add_host", "Show a namespace to a host", *visibility()),
    Command("nvmf_ns_remove_host", "Hide a namespace from a host", *visibility()),
    Command("nvmf_ns_visible", "Show a namespace to a host, or hide it", *visibility(), on_or_off("--visible", required=True)),
    Command("nvmf_subsystem_add_host", "Allow a host to connect", nqn(), Arg("host", help="NQN of the host"), target("-t"),
            Arg("--psk", help="name of a TLS key"), FURTHER_PSKS, Arg("--dhchap-key", help="name of a key"), Arg("--dhchap-ctrlr-key", help="name of a key")),
    Command("nvmf_subsystem_remove_host", "Take a host from the list", nqn(), Arg("host", help="NQN of the host"), target("-t"),
            number("-T", "--timeout-ms", help="time I/O in flight may take")),
    Command("nvmf_subsystem_set_keys", "Change the keys of a host; connections stay", nqn(), Arg("host", help="NQN of the host"), target("-t"),
            Arg("--psk", help="name of a TLS key; without it the TLS keys stay"), FURTHER_PSKS,
            Arg("--dhchap-key", help="name of a key"), Arg("--dhchap-ctrlr-key", help="name of a key")),
    Command("nvmf_subsystem_allow_any_host", "Allow every host, or only those of the list", nqn(), target("-t"),
            on_or_off("--allow-any-host", help="every host (also -e) or the list's (also -d)"),
            flag("-e", "--enable", to="allow_any_host", help="every host"),
            flag("-d", "--disable", to="allow_any_host", value=False, help="the list's")),
    Command("nvmf_discovery_add_referral", "Lead hosts to another discovery service", *referral(),
            flag("-k", "--secure-channel", help="the service there wants TLS"),
            on_or_off("--allow-any-host", help="every host sees it, or those of --hosts"),
            Arg("--hosts", type=names, help="NQNs of hosts that see it, separated by commas")),
    Command("nvmf_discovery_remove_referral", "Take a referral away", *referral()),
    Command("nvmf_discovery_get_referrals", "Show referrals", target("-t"), shows=True),
    Command("nvmf_discovery_referral_add_host", "Show a referral to a host", *referral(), Arg("host", help="NQN of the host")),
    Command("nvmf_discovery_referral_remove_host", "Take a host from those who see a referral", *referral(), Arg("host", help="NQN of the host")),
    Command("nvmf_discovery_referral_allow_any_host", "Show a referral to every host, or to those of its list", *referral(),
            on_or_off("--allow-any-host", required=True)),
    Command("nvmf_publish_mdns_prr", "Not supported", target("-t")),
    Command("nvmf_stop_mdns_prr", "Not supported", target("-t")),
    Command("nvmf_subsystem_get_controllers", "Show the controllers of a subsystem", nqn(), target("-t"), shows=True),
    Command("nvmf_subsystem_get_qpairs", "Show the queue pairs of a subsystem", nqn(), target("-t"), shows=True),
    Command("nvmf_get_stats", "Show statistics of the target", target("-t"), shows=True),
    Command("nvmf_get_io_stats", "Show I/O of hosts by namespace, host and connection", target("-t"), Arg("--nqn", help="only this subsystem"),
            Arg("--kinds", type=names, help="which of total, namespaces, hosts, connections, separated by commas"),
            flag("--histograms", help="latencies by size for each entry"), shows=True),
]
