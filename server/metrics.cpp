// The page of metrics, and the families about the process and its reactors (metrics.h).
// Owner: app_thread.
#include "server/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "reactor/base/event_counter.h"
#include "reactor/clock.h"
#include "rpc/version.h"

namespace catnap::server {
namespace {

using web::Labels;
using web::MetricsPage;
using Type = web::MetricsPage::Type;

std::uint64_t resident_bytes() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/self/statm", "re"), &std::fclose);
  unsigned long all = 0;
  unsigned long resident = 0;
  if (file == nullptr || std::fscanf(file.get(), "%lu %lu", &all, &resident) != 2) return 0;
  return std::uint64_t{resident} * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t ns_of(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * ns_per_s + static_cast<std::uint64_t>(time.tv_usec) * ns_per_us;
}

}  // namespace

Metrics::Metrics(Runtime& runtime, rpc::Dispatcher& dispatcher, ControllerTable& controllers, const std::vector<ServerGroup*>& groups,
                 const web::Options& options)
    : runtime_(runtime), dispatcher_(dispatcher), controllers_(controllers), groups_(groups), options_(options) {
  dispatcher_.observe(rpcs_);
}

void Metrics::collect(std::optional<std::int64_t> certificate_end_s, std::move_only_function<void(std::string)> done) {
  spawn(gather(this, certificate_end_s, std::make_shared<Done>(std::move(done))));
}

void Metrics::write_process(MetricsPage& page) const {
  page.family("catnap_build_info", Type::gauge, "1; the version is a label");
  page.add(Labels().add("version", rpc::version_text()).text(), 1);
  rusage usage{};
  static_cast<void>(::getrusage(RUSAGE_SELF, &usage));
  page.family("catnap_process_cpu_seconds_total", Type::counter, "CPU time of the process");
  page.add_seconds(R"(mode="user")", ns_of(usage.ru_utime));
  page.add_seconds(R"(mode="system")", ns_of(usage.ru_stime));
  page.family("catnap_process_context_switches_total", Type::counter, "Context switches of the process; each voluntary one is a wait");
  page.add(R"(kind="voluntary")", static_cast<std::uint64_t>(usage.ru_nvcsw));
  page.add(R"(kind="involuntary")", static_cast<std::uint64_t>(usage.ru_nivcsw));
  page.family("catnap_process_resident_bytes", Type::gauge, "Memory of the process that is in RAM");
  page.add({}, resident_bytes());
}

void Metrics::write_reactors(MetricsPage& page) const {
  std::vector<const Reactor*> reactors{&runtime_.control()};
  for (const Reactor* reactor : runtime_.reactors()) reactors.push_back(reactor);
  std::vector<std::string> labels;
  std::vector<Reactor::Stats> stats;
  for (const Reactor* reactor : reactors) {
    labels.push_back(Labels().add("reactor", reactor->name()).text());
    stats.push_back(reactor->stats());
  }
  const auto each = [&](auto add) {
    for (std::size_t i = 0; i < reactors.size(); ++i) add(labels[i], stats[i], *reactors[i]);
  };
  page.family("catnap_reactor_seconds_total", Type::counter,
              "Time of a reactor: busy with work, looking for work (spin), asleep; they add up to the wall");
  each([&](const std::string& label, const Reactor::Stats& of, const Reactor&) {
    page.add_seconds(label + R"(,state="busy")", of.busy_ns);
    page.add_seconds(label + R"(,state="spin")", of.spin_ns);
    page.add_seconds(label + R"(,state="sleep")", of.sleep_ns);
  });
  page.family("catnap_reactor_wakeups_total", Type::counter, "What ended a reactor's sleeps");
  each([&](const std::string& label, const Reactor::Stats& of, const Reactor&) {
    page.add(label + R"(,cause="fd")", of.wakeups_fd);
    page.add(label + R"(,cause="message")", of.wakeups_message);
    page.add(label + R"(,cause="timer")", of.wakeups_timer);
    page.add(label + R"(,cause="spurious")", of.wakeups_spurious);
  });
  page.family("catnap_reactor_turns_total", Type::counter, "Turns of a reactor's loop");
  each([&](const std::string& label, const Reactor::Stats& of, const Reactor&) { page.add(label, of.turns); });
  page.family("catnap_reactor_stalls_total", Type::counter, "Turns that took longer than the bound for one (100 ms)");
  each([&](const std::string& label, const Reactor::Stats& of, const Reactor&) { page.add(label, of.stalls); });
  page.family("catnap_reactor_spin_budget_seconds", Type::gauge, "How long an adaptive reactor looks for work at present before it sleeps");
  each([&](const std::string& label, const Reactor::Stats& of, const Reactor&) { page.add_seconds(label, of.spin_budget_ns); });
  page.family("catnap_reactor_asleep", Type::gauge, "1: the reactor is asleep");
  each([&](const std::string& label, const Reactor::Stats&, const Reactor& reactor) { page.add(label, reactor.asleep() ? 1 : 0); });
}

// Counters that modules declare where things happen.
void Metrics::write_events(MetricsPage& page) {
  std::string_view family;
  for (const EventCounter* counter : EventCounter::all()) {
    if (counter->name() != family) page.family(counter->name(), Type::counter, counter->help());
    family = counter->name();
    page.add(counter->labels(), counter->get());
  }
}

}  // namespace catnap::server
