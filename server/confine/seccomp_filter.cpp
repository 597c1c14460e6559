// Making the filter with libseccomp, and telling of refused calls. See seccomp_filter.h.
// Owner: main(); the signal handler runs on whichever OS thread made the refused call, and uses only what a handler may.
#include "server/confine/seccomp_filter.h"

#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "reactor/base/log.h"
#include "server/confine/system_calls.h"

namespace catnap::confine {
namespace {

// Numbers are below 500 today; what is higher is told by number.
constexpr std::size_t known_numbers = 600;

struct Refusals {
  std::array<const char*, known_numbers> names{};  // null: unknown to libseccomp
  std::array<std::atomic<bool>, known_numbers> said{};
};
Refusals& refusals() {
  static Refusals instance;
  return instance;
}

void set_result(void* context, long result) {
  auto* machine = &static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  machine->gregs[REG_RAX] = result;
#elif defined(__aarch64__)
  machine->regs[0] = static_cast<unsigned long long>(result);
#else
#error "where does a system call's result go on this architecture?"
#endif
}

void append(std::array<char, 160>& line, std::size_t& used, const char* text) {
  while (*text != '\0' && used < line.size()) line[used++] = *text++;
}

void append_number(std::array<char, 160>& line, std::size_t& used, int number) {
  std::array<char, 12> digits{};
  std::size_t at = digits.size() - 1;
  do {
    digits[--at] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0 && at > 0);
  append(line, used, &digits[at]);
}

// Instead of the call.
void refused(int, siginfo_t* info, void* context) {
  const int saved = errno;
  const int number = info->si_syscall;
  Refusals& known = refusals();
  const bool in_table = number >= 0 && static_cast<std::size_t>(number) < known_numbers;
  const char* name = in_table ? known.names[static_cast<std::size_t>(number)] : nullptr;
  set_result(context, name != nullptr ? -EPERM : -ENOSYS);
  if (in_table && !known.said[static_cast<std::size_t>(number)].exchange(true, std::memory_order_relaxed)) {
    std::array<char, 160> line{};
    std::size_t used = 0;
    append(line, used, "ERROR: system call ");
    append_number(line, used, number);
    append(line, used, " (");
    append(line, used, name != nullptr ? name : "unknown");
    append(line, used, ") was refused by catnapd's own filter (--seccomp); said once\n");
    static_cast<void>(!::write(STDERR_FILENO, line.data(), used));
  }
  errno = saved;
}

Result<void> prepare_handler() {
  Refusals& known = refusals();
  for (std::size_t number = 0; number < known_numbers; ++number) {
    known.names[number] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number));  // kept for the life of the process
  }
  struct sigaction action{};
  action.sa_sigaction = &refused;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return fail(errno, fmt::format("--seccomp: sigaction: {}", errno_text(errno)));
  return {};
}

// Adds rules, and remembers the first that could not be added.
class Rules {
 public:
  explicit Rules(scmp_filter_ctx context) : context_(context) {}

  void allow(const char* name) { add(SCMP_ACT_ALLOW, name, nullptr, 0); }
  void allow(const char* name, std::initializer_list<scmp_arg_cmp> arguments) { add(SCMP_ACT_ALLOW, name, arguments.begin(), arguments.size()); }
  void answer(const char* name, int error) { add(SCMP_ACT_ERRNO(static_cast<std::uint32_t>(error)), name, nullptr, 0); }
  const Result<void>& outcome() const { return outcome_; }

 private:
  void add(std::uint32_t action, const char* name, const scmp_arg_cmp* arguments, std::size_t count) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0 || !outcome_) return;  // not of this architecture, or newer than the library
    const int error = -seccomp_rule_add_array(context_, action, number, static_cast<unsigned>(count), arguments);
    // EDOM: not of this architecture. EEXIST: allowed already.
    if (error == 0 || error == EDOM || error == EEXIST) return;
    outcome_ = fail(error, fmt::format("--seccomp: a rule for {}: {}", name, errno_text(error)));
  }

  scmp_filter_ctx context_;
  Result<void> outcome_;
};

scmp_arg_cmp is(unsigned argument, std::uint64_t value) { return {argument, SCMP_CMP_EQ, value, 0}; }
scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) { return {argument, SCMP_CMP_MASKED_EQ, mask, value}; }

void allow_memory(Rules& rules) {
  // Data, or code out of a library's file; nothing that is both written and executed, and no turning of the one into the other.
  for (const char* name : {"mmap", "mmap2"}) {
    rules.allow(name, {masked(2, PROT_EXEC, 0)});
    rules.allow(name, {masked(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), masked(3, MAP_ANONYMOUS, 0)});
  }
  rules.allow("mprotect", {masked(2, PROT_EXEC, 0)});
}

void allow_sockets(Rules& rules) {
  for (const int family : {AF_UNIX, AF_INET, AF_INET6}) rules.allow("socket", {is(0, static_cast<std::uint64_t>(family))});
  // The names and addresses of interfaces (getifaddrs): routes only.
  rules.allow("socket", {is(0, AF_NETLINK), is(2, 0)});
  rules.allow("socketpair", {is(0, AF_UNIX)});
}

void allow_threads(Rules& rules) {
  // What the C library asks for a thread, and no process or namespace. clone3 hides its flags in memory, so the C library is sent back to clone.
  constexpr std::uint64_t thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  constexpr std::uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
  rules.allow("clone", {masked(0, thread_flags | namespaces, thread_flags)});
  if (sanitizer_calls().names.empty()) rules.answer("clone3", ENOSYS);
  for (const int option :
       {PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, PR_GET_DUMPABLE, PR_SET_VMA, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ}) {
    rules.allow("prctl", {is(0, static_cast<std::uint64_t>(option))});
  }
  const auto self = static_cast<std::uint64_t>(::getpid());
  rules.allow("tgkill", {is(0, self)});  // abort()
  rules.allow("kill", {is(0, self)});    // spdk_kill_instance
  rules.allow("prlimit64", {is(2, 0)});  // limits may be read; changing them is over
}

// Sizes and geometry, discard and zeroes; whether something is a terminal; bytes that wait in a socket; numbers and names of interfaces.
void allow_ioctls(Rules& rules) {
  constexpr unsigned long requests[] = {BLKGETSIZE64, BLKSSZGET,  BLKPBSZGET, BLKIOMIN,  BLKIOOPT,      BLKALIGNOFF,
                                        BLKDISCARD,   BLKZEROOUT, BLKROGET,   BLKFLSBUF, BLKROTATIONAL, BLKDISCARDZEROES,
                                        FIONREAD,     FIONBIO,    TIOCOUTQ,   TCGETS,    SIOCGIFINDEX,  SIOCGIFNAME};
  for (const unsigned long request : requests) rules.allow("ioctl", {is(1, request)});
}

std::uint32_t default_action(SeccompMode mode) { return mode == SeccompMode::log ? SCMP_ACT_LOG : SCMP_ACT_TRAP; }

Result<void> add_rules(scmp_filter_ctx context, const SeccompOptions& options) {
  Rules rules(context);
  for (const CallGroup& group : call_groups()) {
    for (const char* name : group.names) rules.allow(name);
  }
  const CallGroup of_sanitizers = sanitizer_calls(), of_io_uring = io_uring_calls();
  for (const char* name : of_sanitizers.names) rules.allow(name);
  for (const char* name : of_io_uring.names) {
    if (options.io_uring) {
      rules.allow(name);
    } else {
      rules.answer(name, ENOSYS);
    }
  }
  allow_memory(rules);
  allow_sockets(rules);
  allow_threads(rules);
  allow_ioctls(rules);
  return rules.outcome();
}

Result<void> load(scmp_filter_ctx context) {
  // Every thread there is; ours start later and inherit it.
  int error = -seccomp_attr_set(context, SCMP_FLTATR_CTL_TSYNC, 1);
  // Kernels before 5.16 would slow down a process with a filter against attacks by code that it runs for others, which catnapd does not.
  static_cast<void>(seccomp_attr_set(context, SCMP_FLTATR_CTL_SSB, 1));
  static_cast<void>(seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2));  // a binary tree instead of a list
  if (error == 0) error = -seccomp_load(context);
  if (error != 0)
    return fail(error, fmt::format("the kernel does not take a filter of system calls: {} (--seccomp off does without)", errno_text(error)));
  return {};
}

}  // namespace

Result<void> filter_system_calls(const SeccompOptions& options) {
  if (options.mode == SeccompMode::off) {
    log_notice("system calls are not filtered (--seccomp off)");
    return {};
  }
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> context(seccomp_init(default_action(options.mode)), seccomp_release);
  if (!context) return fail(ENOMEM, "--seccomp: no memory for the filter");
  if (auto added = add_rules(context.get(), options); !added) return added;
  if (options.mode == SeccompMode::on) {
    if (auto prepared = prepare_handler(); !prepared) return prepared;
  }
  if (auto loaded = load(context.get()); !loaded) return loaded;
  log_notice("system calls are filtered{}{}",
             options.mode == SeccompMode::log ? ": what is not expected goes to the kernel's log and is allowed" : "",
             options.io_uring ? "" : "; without io_uring");
  return {};
}

}  // namespace catnap::confine
