// Starting and stopping of the process's OS threads. See runtime.h.
#include "reactor/runtime.h"

#include <fmt/core.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/for_each.h"
#include "reactor/placement.h"

namespace catnap {
namespace {

Runtime* the_runtime = nullptr;

// Deadlines are met within 25 to 32 µs instead of 75 µs or more with the default slack of 50 µs (measured).
void set_timer_slack() { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }

void pin_to(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) log_warning("reactor_{}: cannot be pinned to CPU {}", cpu, cpu);
}

}  // namespace

Runtime* Runtime::instance() { return the_runtime; }

Runtime::Runtime(RuntimeOptions options) : options_(std::move(options)), workers_(std::make_unique<WorkerPool>()) {
  ReactorOptions control;
  control.name = "control";
  control.mode = ReactorMode::interrupt;  // always: the control plane is never worth a spinning CPU
  control_ = std::make_unique<Reactor>(control);
  app_thread_ = &create_thread(*control_, "app_thread");
  const auto topology = read_topology(options_.cpumask);
  if (!topology) log_warning("buffers are not bound to NUMA nodes: {}", topology.error().message);
  for (const unsigned cpu : options_.cpumask.cpus()) {
    ReactorOptions data;
    data.name = fmt::format("reactor_{}", cpu);
    data.lcore = cpu;
    data.mode = options_.mode;
    data.max_spin_us = options_.max_spin_us;
    data.buffer_cap_bytes = options_.buffer_cap_bytes;
    if (topology && topology->nodes().size() > 1) data.numa_node = topology->node_of(cpu);
    reactors_.push_back(std::make_unique<Reactor>(data));
  }
}

Result<std::unique_ptr<Runtime>> Runtime::start(RuntimeOptions options) {
  const CpuMask allowed = CpuMask::of_process();
  if (options.cpumask.empty()) options.cpumask = CpuMask::of_cpu(allowed.cpus().front());
  for (const unsigned cpu : options.cpumask.cpus()) {
    if (!allowed.has(cpu))
      return fail(EINVAL, fmt::format("cpumask 0x{}: CPU {} is not there or not allowed to this process (allowed: 0x{})", options.cpumask.hex(), cpu,
                                      allowed.hex()));
  }
  CATNAP_CHECK(the_runtime == nullptr);
  std::unique_ptr<Runtime> runtime(new Runtime(std::move(options)));
  the_runtime = runtime.get();
  for (const auto& reactor : runtime->reactors_) {
    runtime->os_threads_.emplace_back([&reactor = *reactor] {
      set_timer_slack();
      pin_to(reactor.lcore());
      pthread_setname_np(pthread_self(), reactor.name().c_str());
      reactor.run();
    });
  }
  return runtime;
}

Runtime::~Runtime() {
  // First no thread moves any more, then each is asked to exit where it is.
  for (const auto& reactor : reactors_) reactor->request_stop();
  for (const auto& reactor : reactors_) {
    for (Thread* thread : reactor->threads()) thread->request_exit();
  }
  for (auto& os_thread : os_threads_) os_thread.join();
  workers_.reset();  // finishes what runs; results go to threads that still exist
  the_runtime = nullptr;
}

void Runtime::run(Message main_function) {
  set_timer_slack();
  app_thread_->send(std::move(main_function));
  control_->run();
}

void Runtime::request_stop() {
  app_thread_->request_exit();
  control_->request_stop();
}

std::vector<Reactor*> Runtime::reactors() const {
  std::vector<Reactor*> list;
  for (const auto& reactor : reactors_) list.push_back(reactor.get());
  return list;
}

std::vector<Thread*> Runtime::loops() const {
  std::vector<Thread*> list = {&control_->loop()};
  for (const auto& reactor : reactors_) list.push_back(&reactor->loop());
  return list;
}

std::vector<Thread*> Runtime::threads() const {
  const auto no_moves = Reactor::hold_moves();  // else one on its way would be in no list, or in two
  std::vector<Thread*> list = control_->threads();
  for (const auto& reactor : reactors_) {
    for (Thread* thread : reactor->threads()) list.push_back(thread);
  }
  return list;
}

void Runtime::for_each_thread(std::function<void(Thread&)> visit, Message done) { for_each_of(threads(), std::move(visit), std::move(done)); }

Thread& Runtime::create_thread(Reactor& reactor, std::string name, std::optional<CpuMask> cpumask) {
  const CpuMask home = &reactor == control_.get() ? CpuMask::of_process() : CpuMask::of_cpu(reactor.lcore());
  auto thread = std::make_unique<Thread>(std::move(name), cpumask.value_or(home));
  Thread& created = *thread;
  reactor.adopt(std::move(thread));
  return created;
}

Reactor* Runtime::reactor_on(unsigned cpu) const {
  for (const auto& reactor : reactors_) {
    if (reactor->lcore() == cpu) return reactor.get();
  }
  return nullptr;
}

}  // namespace catnap
