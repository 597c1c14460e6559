"""What the tests of the dashboard share: a server with a few disks, and the page on it in headless Chromium.

Left out: the browser itself (browser.py), the cases (dashboard_test.py, dashboard_looks.py).
"""
from browser import Browser
from harness import Cases, Catnapd, free_port
from nvme_client import Controller

NQN = "nqn.2026-11.io.example:disks"
BLOCK = 4096
CASES = Cases("dashboard_test")


class Rig:
  """A server with a few disks, and the page on it."""

  def __init__(self, chosen):
    self.chosen = chosen
    self.browser = Browser()
    self.http_port, self.port = free_port(), free_port()
    self.server = Catnapd(chosen.catnapd, ["--http", f"127.0.0.1:{self.http_port}"], name="catnapd-dashboard", log_folder=chosen.logs)
    self.start()

  def start(self):
    self.server.start()
    call = self.server.rpc.call
    call("nvmf_create_transport", trtype="TCP")
    for name in ("Disk0", "Disk1"):
      call("bdev_malloc_create", name=name, num_blocks=(64 << 20) // BLOCK, block_size=BLOCK)
    call("bdev_null_create", name="Null0", num_blocks=1 << 18, block_size=BLOCK)
    call("bdev_passthru_create", base_bdev_name="Null0", name="Thru0")
    call("bdev_raid_create", name="Mirror0", raid_level="raid1", base_bdevs=["Disk0", "Disk1"], superblock=False)
    call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, serial_number="E2E1", model_number="catnap e2e")
    for bdev in ("Mirror0", "Thru0"):
      call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": bdev})
    call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})

  def connect(self):
    return Controller(("127.0.0.1", self.port), NQN)

  @property
  def url(self):
    return f"http://127.0.0.1:{self.http_port}/"

  def open(self, pace_ms=500):
    """The page, fresh and live."""
    page = self.browser
    page.size(1440, 1100)
    page.prefers(color_scheme="light")
    page.page.get(self.url)
    page.run("localStorage.clear(); localStorage.setItem('catnap.pace', arguments[0])", str(pace_ms))
    page.page.get(self.url)
    page.until("return document.querySelector('#main').dataset.live === 'true' && document.querySelectorAll('#volumes-body tr').length > 0", "the first figures")
    return page

  def close(self):
    self.browser.close()
    self.server.close()


def rows_of(page):
  return page.run("return [...document.querySelectorAll('#volumes-body tr')].map((row) => row.querySelector('.name').textContent)")


def in_module(page, module, script, *arguments):
  """What `script` returns with `it` being a module of the page."""
  answer = page.page.execute_async_script(f"""
    const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);
    import("./{module}").then((it) => done({{value: ((it, ...given) => {{ {script} }})(it, ...given)}})).catch((failure) => done({{failure: String(failure)}}));""",
                                          *arguments)
  assert "failure" not in answer, answer["failure"]
  return answer["value"]
