"""idle_test's cases with another target behind the server: attached controllers with several paths, secure channels, authentication, both together.

Left out: what a case may cost and how that is counted (idle_rig.py).
"""
import socket
import sys
import tempfile
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol" / "rpc"))

from auth_host import AuthQueue, dhchap  # noqa: E402
from harness import Catnapd, free_port, wait_for  # noqa: E402
from idle_rig import BLOCK_SIZE, NQN, QUIET_S, SIZE_BYTES, cases, do_io, quiet, settled  # noqa: E402
from nvme_client import Controller  # noqa: E402
from tls_keys import HostKey, dialler, interchange, new_key  # noqa: E402

INITIATOR_CONTROLLERS = 8
INITIATOR_PATHS = 2
# Keep-alives go every 5 s, for all paths together: a window that holds two such moments counts what they cost.
INITIATOR_QUIET_S = max(QUIET_S, 10)


def export_disk(rpc, nqn, disk, ports):
  rpc.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
  rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": disk, "nsid": 1})
  for port in ports:
    rpc.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})


@cases.case(f"{INITIATOR_CONTROLLERS} attached controllers with {INITIATOR_PATHS} paths each, exported again, after I/O")
def initiator(chosen):
  with Catnapd(chosen.catnapd, name="idle-back", log_folder=chosen.logs) as back, Catnapd(chosen.catnapd, name="idle-initiator",
                                                                                         log_folder=chosen.logs) as server:
    ports = [free_port() for _ in range(INITIATOR_PATHS)]
    front = free_port()
    for rpc in (back.rpc, server.rpc):
      rpc.call("nvmf_create_transport", trtype="TCP")
    hosts = []
    for number in range(INITIATOR_CONTROLLERS):
      back_nqn, front_nqn = f"{NQN}-back{number}", f"{NQN}-front{number}"
      back.rpc.call("bdev_malloc_create", name=f"M{number}", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
      export_disk(back.rpc, back_nqn, f"M{number}", ports)
      for port in ports:
        server.rpc.call("bdev_nvme_attach_controller", name=f"Nvme{number}", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(port),
                        subnqn=back_nqn, multipath="multipath", ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1,
                        multipath_opts={"policy": "active_active", "selector": "round_robin"})
      export_disk(server.rpc, front_nqn, f"Nvme{number}n1", [front])
      hosts.append(Controller(("127.0.0.1", front), front_nqn))
    for host in hosts:
      do_io(host, "nvme")
    settled(server)
    quiet(server, f"{INITIATOR_CONTROLLERS} controllers with {INITIATOR_PATHS} paths each", quiet_s=INITIATOR_QUIET_S)
    for host in hosts:
      host.close()
    server.terminate()
    back.terminate()


@cases.case("secure channels: a host's after I/O, an attached controller's, and a half handshake that is given up")
def secure_channels(chosen):
  host_id = uuid.UUID("7065726f-0000-4000-8000-000000000009")
  raw = new_key()
  front_nqn, back_nqn = NQN + "-front", NQN + "-back"
  hostnqn = f"nqn.2014-08.org.nvmexpress:uuid:{host_id}"
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, Catnapd(chosen.catnapd, name="idle-tls-back", log_folder=chosen.logs) as back, \
       Catnapd(chosen.catnapd, name="idle-tls", log_folder=chosen.logs) as server:
    key = Path(folder) / "psk"
    key.touch(mode=0o600)
    key.write_text(interchange(raw, 1))
    ports = {}
    back.rpc.call("bdev_malloc_create", name="M0", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
    for each, nqn, disk in ((back, back_nqn, "M0"), (server, front_nqn, "Nvme0n1")):
      ports[nqn] = free_port()
      each.rpc.call("nvmf_create_transport", trtype="TCP", tls_handshake_timeout_ms=1000)
      each.rpc.call("keyring_file_add_key", name="k", path=str(key))
      if each is server:
        each.rpc.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(ports[back_nqn]),
                      subnqn=back_nqn, hostnqn=hostnqn, psk="k")
      each.rpc.call("nvmf_create_subsystem", nqn=nqn)
      each.rpc.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": disk, "nsid": 1})
      each.rpc.call("nvmf_subsystem_add_host", nqn=nqn, host=hostnqn, psk="k")
      each.rpc.call("nvmf_subsystem_add_listener", nqn=nqn, secure_channel=True,
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(ports[nqn])})
    address = ("127.0.0.1", ports[front_nqn])
    host = Controller(address, front_nqn, host_id=host_id, dial=dialler(HostKey(raw, 1, hostnqn, front_nqn)))
    do_io(host, "nvme")
    with socket.create_connection(address) as half:
      half.sendall(b"\x16\x03\x01\x02\x00")
      settled(server)
      wait_for(lambda: server.rpc.call("nvmf_get_stats")["connections"]["tls_handshakes"]["timed_out"] == 1, 20, "the half handshake to be given up")
    settled(server)
    quiet(server, "TLS connected on both sides", quiet_s=INITIATOR_QUIET_S)
    do_io(host, "nvme")
    host.close()
    server.terminate()
    back.terminate()


@cases.case("authentication: an attached controller's queues after new keys, and a queue that never finished")
def authentication(chosen):
  authenticated_controller(chosen, {}, {}, lambda queue: queue["auth"]["state"] == "completed")


@cases.case("secure channel concatenation: the same by TLS with a generated key")
def concatenation(chosen):
  authenticated_controller(chosen, {"secure_concatenation": "allowed"}, {"secure_concatenation": True},
                           lambda queue: (queue["tls"] or {}).get("key_type") == "generated")


def authenticated_controller(chosen, listener, attach, proven):
  hostnqn = "nqn.2026-11.io.catnap:idle-host"
  with tempfile.TemporaryDirectory(prefix="catnap-idle-") as folder, \
       Catnapd(chosen.catnapd, ["--wait-for-rpc"], name="idle-auth-back", log_folder=chosen.logs) as back, \
       Catnapd(chosen.catnapd, name="idle-auth", log_folder=chosen.logs) as server:
    back.rpc.call("nvmf_set_config", dhchap_timeout_ms=1000)
    back.rpc.call("framework_start_init")
    secrets = {name: dhchap.make_secret() for name in ("one", "two")}
    for name, secret in secrets.items():
      key = Path(folder) / name
      key.touch(mode=0o600)
      key.write_text(secret)
      for each in (back, server):
        each.rpc.call("keyring_file_add_key", name=name, path=str(key))
    port = free_port()
    back.rpc.call("nvmf_create_transport", trtype="TCP")
    back.rpc.call("bdev_malloc_create", name="M0", num_blocks=SIZE_BYTES // BLOCK_SIZE, block_size=BLOCK_SIZE)
    back.rpc.call("nvmf_create_subsystem", nqn=NQN)
    back.rpc.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "M0", "nsid": 1})
    back.rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=hostnqn, dhchap_key="one", dhchap_ctrlr_key="two")
    back.rpc.call("nvmf_subsystem_add_listener", nqn=NQN, **listener,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    server.rpc.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(port), subnqn=NQN,
                    hostnqn=hostnqn, dhchap_key="one", dhchap_ctrlr_key="two", **attach)
    front = free_port()
    server.rpc.call("nvmf_create_transport", trtype="TCP")
    export_disk(server.rpc, NQN + "-front", "Nvme0n1", [front])
    host = Controller(("127.0.0.1", front), NQN + "-front")
    do_io(host, "nvme")

    def authenticated():
      queues = back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)
      return len(queues) == 2 and all(proven(queue) for queue in queues)

    wait_for(authenticated, 20, "the queues to have authenticated")
    back.rpc.call("nvmf_subsystem_set_keys", nqn=NQN, host=hostnqn, dhchap_key="two", dhchap_ctrlr_key="one")
    server.rpc.call("bdev_nvme_set_keys", name="Nvme0", dhchap_key="two", dhchap_ctrlr_key="one")
    before = len(back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN))
    half = AuthQueue(("127.0.0.1", port), NQN, hostnqn, secrets["two"])
    half.negotiate()
    half.challenge()
    wait_for(lambda: len(back.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)) == before, 20, "the half authentication to be given up")
    for each, what in ((back, "hosts that have authenticated"), (server, "controllers that have authenticated")):
      settled(each)
      quiet(each, what, quiet_s=INITIATOR_QUIET_S)
    half.close()
    do_io(host, "nvme")
    host.close()
    server.terminate()
    back.terminate()
