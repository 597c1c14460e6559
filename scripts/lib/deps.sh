# What catnap needs from Debian 12, by purpose, and the one function that installs it.
# Sourced by scripts/quickstart, scripts/test and .ci/run; not run by itself.
# Left out: anything from outside Debian's own archive.

DEPS_BUILD=(
  g++ cmake ninja-build pkg-config ccache
  libjsoncpp-dev libspdlog-dev libfmt-dev libisal-dev liburing-dev libaio-dev libnuma-dev libseccomp-dev libssl-dev libcli11-dev libmicrohttpd-dev libgnutls28-dev libcrypt-dev
)
# Compilers, linters and libraries that only the tests use.
DEPS_TEST=(
  libgtest-dev libgmock-dev libbenchmark-dev
  clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev
  python3 python3-prometheus-client zsh
)
# The real Linux host in QEMU (tests/e2e). What runs inside the guest is downloaded and unpacked by tests/e2e/image, never installed.
DEPS_E2E=(
  qemu-system-x86 e2fsprogs
  mmdebstrap lintian dpkg-dev systemd groff-base util-linux
  chromium chromium-driver python3-selenium
)

# deps_install PURPOSE PACKAGE...: installs the missing ones of PACKAGE with apt, silently skips when none is missing.
deps_install() {
  local purpose=$1
  shift
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || {
      echo "These Debian packages are missing, and neither root nor sudo is at hand to install them: ${missing[*]}" >&2
      return 1
    }
    as_root=(sudo)
  fi
  echo "==> Installing for ${purpose}: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}
