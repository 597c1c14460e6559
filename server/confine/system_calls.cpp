// The table of system calls. See system_calls.h.
// Owner: none (constants).
#include "server/confine/system_calls.h"

#include <array>

namespace catnap::confine {
namespace {

// The allocator of the C library, thread stacks, io_uring's rings, locked pages of keys, NUMA binding of buffers. mmap and mprotect: with arguments.
constexpr std::array memory = {"brk",           "munmap", "mremap",  "madvise",       "mlock",        "mlock2",     "munlock",        "mbind",
                               "get_mempolicy", "msync",  "mincore", "set_mempolicy", "memfd_create", "move_pages", "process_madvise"};
// Block devices and files: data, size, holes, durability; configuration, state and key files. ioctl: with arguments.
constexpr std::array files = {
    "open",       "openat",    "openat2",    "close",      "close_range", "read",       "write",           "readv",     "writev",    "pread64",
    "pwrite64",   "preadv",    "pwritev",    "preadv2",    "pwritev2",    "lseek",      "_llseek",         "stat",      "fstat",     "lstat",
    "newfstatat", "statx",     "statfs",     "fstatfs",    "fsync",       "fdatasync",  "sync_file_range", "fallocate", "ftruncate", "truncate",
    "fadvise64",  "rename",    "renameat",   "renameat2",  "link",        "linkat",     "unlink",          "unlinkat",  "fcntl",     "flock",
    "access",     "faccessat", "faccessat2", "getdents64", "readlink",    "readlinkat", "getcwd",          "umask",     "chmod",     "fchmod",
    "fchmodat",   "dup",       "dup2",       "dup3",       "mkdir",       "mkdirat",    "copy_file_range", "readahead", "fstat64",   "fstatat64"};
// libaio.
constexpr std::array linux_aio = {"io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents"};
// Connections of hosts, of JSON-RPC and HTTP; getsockopt and setsockopt cover kernel TLS. socket and socketpair: with arguments.
constexpr std::array network = {"bind",   "listen",  "accept",   "accept4",  "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
                                "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",    "shutdown",    "sendfile"};
// Loops.
constexpr std::array waiting = {"epoll_create1", "epoll_create",   "epoll_ctl",       "epoll_wait",      "epoll_pwait", "epoll_pwait2",
                                "poll",          "ppoll",          "select",          "pselect6",        "eventfd2",    "eventfd",
                                "signalfd4",     "timerfd_create", "timerfd_settime", "timerfd_gettime", "pipe2",       "pipe"};
// The C library asks the kernel where the vDSO cannot answer.
constexpr std::array clocks = {"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"};
// OS threads: made at start and by the worker pool. clone and prctl: with arguments.
constexpr std::array threads = {"futex",
                                "futex_waitv",
                                "set_robust_list",
                                "get_robust_list",
                                "rseq",
                                "set_tid_address",
                                "exit",
                                "exit_group",
                                "gettid",
                                "getpid",
                                "getppid",
                                "sched_yield",
                                "sched_getaffinity",
                                "sched_setaffinity",
                                "sched_getparam",
                                "sched_getscheduler",
                                "sched_get_priority_max",
                                "sched_get_priority_min",
                                "getcpu",
                                "membarrier",
                                "restart_syscall",
                                "getpriority"};
// Delivery of SIGTERM and SIGINT, abort() after a broken invariant, and the filter's own handler.
constexpr std::array signals = {"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "rt_sigpending", "rt_sigtimedwait"};
// Who and where the process is: limits on file descriptors, load, memory; random numbers of libraries.
constexpr std::array facts = {"getuid",    "geteuid", "getgid", "getegid",   "getresuid", "getresgid", "getgroups", "capget", "getrlimit",
                              "getrusage", "sysinfo", "uname",  "getrandom", "times",     "getpgrp",   "getpgid",   "getsid"};

constexpr std::array uring = {"io_uring_setup", "io_uring_enter", "io_uring_register"};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CATNAP_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CATNAP_SANITIZED 1
#endif
#endif
#ifdef CATNAP_SANITIZED
// The leak check stops all threads from a child that shares memory; reports start a symboliser; shadow memory is mapped as it is needed.
constexpr std::array sanitizers = {"clone",    "clone3",           "fork",      "vfork",       "execve",     "wait4",      "waitid",
                                   "ptrace",   "process_vm_readv", "kill",      "tkill",       "tgkill",     "mmap",       "mprotect",
                                   "prctl",    "setrlimit",        "prlimit64", "personality", "socketpair", "arch_prctl", "rt_tgsigqueueinfo",
                                   "getdents", "set_thread_area"};
#endif

constexpr std::array groups = {CallGroup{"memory", memory},   CallGroup{"files", files},     CallGroup{"libaio", linux_aio},
                               CallGroup{"network", network}, CallGroup{"waiting", waiting}, CallGroup{"clocks", clocks},
                               CallGroup{"threads", threads}, CallGroup{"signals", signals}, CallGroup{"facts", facts}};

}  // namespace

std::span<const CallGroup> call_groups() { return groups; }

CallGroup io_uring_calls() { return {"io_uring", uring}; }

CallGroup sanitizer_calls() {
#ifdef CATNAP_SANITIZED
  return {"sanitizers", sanitizers};
#else
  return {"sanitizers", {}};
#endif
}

}  // namespace catnap::confine
