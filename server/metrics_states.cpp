// Families about states: buffers of each reactor, arrays, controllers of other targets, the state file, the HTTP server's certificate. What they show
// is what the RPCs answer, so these are asked (metrics.h). Owner: app_thread.
#include <string>

#include "server/metrics.h"

namespace catnap::server {

using web::Labels;
using web::MetricsPage;
using Type = web::MetricsPage::Type;

namespace {

constexpr const char* raid_states[] = {"online", "configuring", "offline"};
constexpr const char* member_states[] = {"in_sync", "rebuilding", "waiting", "missing", "failed"};

std::string raid_label(const Json::Value& raid) {
  return Labels().add("raid", raid["name"].asString()).add("level", raid["raid_level"].asString()).text();
}

void write_buffers(MetricsPage& page, const Json::Value& list) {
  struct Field {
    const char* key;
    const char* name;
    const char* help;
  };
  static constexpr Field fields[] = {
      {"held_bytes", "catnap_buffer_held_bytes", "Data buffers that a reactor has from the system, in use or kept"},
      {"free_bytes", "catnap_buffer_free_bytes", "Of these, what nobody uses"},
      {"cap_bytes", "catnap_buffer_cap_bytes", "Most that a reactor may have; at the cap I/O waits its turn"},
      {"waiting", "catnap_buffer_waiting", "I/Os that wait for a buffer"},
  };
  for (const Field& field : fields) {
    page.family(field.name, Type::gauge, field.help);
    for (const Json::Value& entry : list) page.add(Labels().add("reactor", entry["module"].asString()).text(), entry[field.key].asUInt64());
  }
  page.family("catnap_buffer_waits_total", Type::counter, "Buffers that had to be waited for");
  for (const Json::Value& entry : list) {
    page.add(Labels().add("reactor", entry["module"].asString()).text(), entry["large_pool"]["retry"].asUInt64());
  }
}

void write_arrays(MetricsPage& page, const Json::Value& list) {
  page.family("catnap_raid_state", Type::gauge, "1 for the state that an array is in");
  for (const Json::Value& raid : list) {
    for (const char* state : raid_states) page.add(raid_label(raid) + ",state=\"" + state + "\"", raid["state"].asString() == state ? 1 : 0);
  }
  page.family("catnap_raid_members", Type::gauge, "Members of an array by state");
  for (const Json::Value& raid : list) {
    for (const char* state : member_states) {
      std::uint64_t count = 0;
      for (const Json::Value& member : raid["base_bdevs_list"]) count += member["state"].asString() == state ? 1 : 0;
      page.add(raid_label(raid) + ",state=\"" + state + "\"", count);
    }
  }
  page.family("catnap_raid_progress_ratio", Type::gauge, "How far a rebuild, resync or scrub that runs has come; no series while none does");
  for (const Json::Value& raid : list) {
    const Json::Value& process = raid["process"];
    if (!process.isObject()) continue;
    const double total = process["progress"]["total_blocks"].asDouble();
    const double ratio = total > 0 ? process["progress"]["blocks"].asDouble() / total : 0;
    page.add_ratio(raid_label(raid) + "," + Labels().add("process", process["type"].asString()).text(), ratio);
  }
}

void write_controllers(MetricsPage& page, const Json::Value& list) {
  page.family("catnap_nvme_controller_enabled", Type::gauge, "1: the path to another target is up; 0: it is not, and its state says why");
  for (const Json::Value& subsystem : list) {
    for (const Json::Value& controller : subsystem["ctrlrs"]) {
      const Json::Value& place = controller["trid"];
      page.add(Labels()
                   .add("controller", subsystem["name"].asString())
                   .add("traddr", place["traddr"].asString())
                   .add("trsvcid", place["trsvcid"].asString())
                   .add("state", controller["state"].asString())
                   .text(),
               controller["state"].asString() == "enabled" ? 1 : 0);
    }
  }
}

// `state`: what framework_get_state answers.
void write_state_file(MetricsPage& page, const Json::Value& state) {
  const bool enabled = state["enabled"].asBool();
  page.family("catnap_state_file_durable", Type::gauge,
              "1: the state file has the configuration in force; 0: it could not be written (no series without --state)");
  if (enabled) page.add({}, state["durable"].asBool() ? 1 : 0);
  page.family("catnap_state_file_bytes", Type::gauge, "Size of the state file");
  if (enabled) page.add({}, state["bytes"].asUInt64());
  page.family("catnap_state_file_writes_total", Type::counter, "Times that the state file was written");
  if (enabled) page.add({}, state["writes"].asUInt64());
  page.family("catnap_configuration_pending", Type::gauge,
              "Calls of the state file that wait for a device, an address or another target, or were refused");
  if (enabled) page.add({}, state["pending"].asUInt64());
}

void write_certificate(MetricsPage& page, std::optional<std::int64_t> end_s) {
  page.family("catnap_http_certificate_expiry_timestamp_seconds", Type::gauge,
              "Until when the certificate that the HTTP server shows is valid, in seconds since 1970 (no series without TLS)");
  if (end_s && *end_s >= 0) page.add({}, static_cast<std::uint64_t>(*end_s));
}

}  // namespace

Task<void> Metrics::gather(Metrics* self, std::optional<std::int64_t> certificate_end_s, std::shared_ptr<Done> done) {
  const Json::Value nothing;
  Json::Value all_arrays(Json::objectValue);
  all_arrays["category"] = "all";
  const std::string buffers_method = "iobuf_get_stats";
  const std::string arrays_method = "bdev_raid_get_bdevs";
  const std::string controllers_method = "bdev_nvme_get_controllers";
  const std::string state_method = "framework_get_state";
  auto buffers = co_await self->dispatcher_.call(buffers_method, nothing, rpc::Origin::config_file);
  auto arrays = co_await self->dispatcher_.call(arrays_method, all_arrays, rpc::Origin::config_file);
  auto controllers = co_await self->dispatcher_.call(controllers_method, nothing, rpc::Origin::config_file);
  auto state = co_await self->dispatcher_.call(state_method, nothing, rpc::Origin::config_file);
  MetricsPage page;
  page.expect(self->page_bytes_ + self->page_bytes_ / 8);
  self->write_process(page);
  self->write_reactors(page);
  self->write_target(page);
  self->write_io(page);
  self->write_bdevs(page);
  // Each may be refused while the target is not initialised: then there is nothing of it.
  if (buffers) write_buffers(page, *buffers);
  if (arrays) write_arrays(page, *arrays);
  if (controllers) write_controllers(page, *controllers);
  if (state) write_state_file(page, *state);
  write_certificate(page, certificate_end_s);
  self->rpcs_.write(page);
  write_events(page);
  self->page_bytes_ = page.text().size();
  (*done)(page.take());
}

}  // namespace catnap::server
