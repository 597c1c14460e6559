// See raid1_marks.h and docs/raid.md, "Marks".
#include "bdev/raid/raid1_marks.h"

#include <algorithm>
#include <cstring>

#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_sync.h"
#include "reactor/base/log.h"

namespace catnap::bdev::raid1 {
namespace {

void add(std::vector<std::shared_ptr<Lane>>& lanes, std::shared_ptr<Lane> lane) {
  if (std::ranges::find(lanes, lane) == lanes.end()) lanes.push_back(std::move(lane));
}

std::uint64_t tag_of(const Superblock& superblock) {
  std::uint64_t tag;
  std::memcpy(&tag, superblock.array_uuid.data(), sizeof tag);
  return tag;
}

}  // namespace

Marks::Marks(Core& core)
    : core_(core),
      maps_(core.maps()),
      wanted_(maps_.capacity),
      committing_(maps_.capacity),
      candidates_(maps_.capacity),
      clearing_(maps_.capacity),
      alarm_(core.executor().make_alarm([this] { look_for_quiet(); })) {
  if (!in_memory()) pages_ = std::make_unique<BitmapPages>(maps_.capacity, core.options().block_size, tag_of(core.superblock()));
}

Marks::~Marks() = default;

bool Marks::in_memory() const { return core_.options().record == Record::memory; }

std::uint64_t Marks::offset_blocks() const { return core_.superblock().bitmap_offset_blocks; }

void Marks::disarm() { alarm_->disarm(); }

bool Marks::is_set(std::uint64_t region) const {
  if (pages_ == nullptr) return maps_.marked.test(region) || candidates_.test(region);
  return (pages_->test(region) || wanted_.test(region)) && !clearing_.test(region);
}

std::uint64_t Marks::count() const {
  std::uint64_t total = 0;
  for (std::uint64_t region = 0; region < maps_.regions; ++region) total += is_set(region) ? 1 : 0;
  return total;
}

// --- marking ---

void Marks::ask(std::shared_ptr<Lane> lane, const std::vector<std::uint64_t>& regions) {
  // It hears of that by its next roles. Until then nothing may count as marked: what is set here may not stand on any member.
  if (core_.frozen()) {
    lane->executor().post([lane] { lane->marks_changed(); });
    return;
  }
  bool this_commit = false, next_commit = false;
  for (const std::uint64_t region : regions) {
    if (committing_.test(region)) {
      this_commit = true;
      continue;
    }
    if (clearing_.test(region) || (pages_->test(region) && !wanted_.test(region))) {
      // It still stands on all members: it was about to be cleared, or another lane was faster.
      candidates_.clear(region);
      clearing_.clear(region);
      maps_.marked.set(region);
      continue;
    }
    wanted_.set(region);
    next_commit = true;
  }
  if (!this_commit && !next_commit) {
    lane->executor().post([lane] { lane->marks_changed(); });
    return;
  }
  add(next_commit ? asking_ : asking_now_, std::move(lane));
  if (!busy_) cycle();
}

void Marks::mark_all(std::function<void()> done) { mark_range(0, maps_.regions - 1, std::move(done)); }

void Marks::mark_range(std::uint64_t first_region, std::uint64_t last_region, std::function<void()> done) {
  if (pages_ == nullptr) {
    for (std::uint64_t region = first_region; region <= last_region; ++region) maps_.marked.set(region);
    return done();
  }
  for (std::uint64_t region = first_region; region <= last_region; ++region) {
    candidates_.clear(region);
    clearing_.clear(region);
    if (!committing_.test(region)) wanted_.set(region);
  }
  after_next_.push_back(std::move(done));
  if (!busy_) cycle();
}

void Marks::mark_then(std::uint64_t region, std::function<void()> done) {
  maps_.touched.set(region);
  if (pages_ == nullptr) {
    maps_.marked.set(region);
    watch();
    return done();
  }
  if (committing_.test(region)) {
    after_this_.push_back(std::move(done));
    return;
  }
  if (clearing_.test(region) || (pages_->test(region) && !wanted_.test(region))) {
    candidates_.clear(region);
    clearing_.clear(region);
    maps_.marked.set(region);
    return done();
  }
  wanted_.set(region);
  after_next_.push_back(std::move(done));
  if (!busy_) cycle();
}

void Marks::write_everywhere(std::function<void()> done) {
  if (pages_ == nullptr) return done();
  CATNAP_CHECK(!busy_);
  busy_ = true;
  after_this_.push_back(std::move(done));
  std::set<std::uint64_t> all;
  for (std::uint64_t page = 0; page < pages_->pages(); ++page) all.insert(page);
  write_cycle(std::move(all), true);
}

void Marks::write_again(std::function<void()> done) {
  if (pages_ == nullptr) return done();
  write_all_ = true;
  after_next_.push_back(std::move(done));
  if (!busy_) cycle();
}

void Marks::written_again() {
  if (pages_ == nullptr) return;
  for (std::uint64_t region = 0; region < maps_.regions; ++region) {
    if (pages_->test(region) && !candidates_.test(region) && !clearing_.test(region)) maps_.marked.set(region);
  }
}

// One write of pages at a time: copies first, then what is to be marked and cleared together.
void Marks::cycle() {
  if (busy_) return;
  if (!copies_.empty()) return run_copy();
  if (wanted_.empty() && clearing_.empty() && after_next_.empty()) return;
  busy_ = true;
  std::set<std::uint64_t> pages;
  const bool all = std::exchange(write_all_, false);
  const bool durable = !wanted_.empty() || all;
  counts_.commits += wanted_.empty() ? 0 : 1;
  counts_.regions_marked += wanted_.count();
  counts_.clears += clearing_.empty() ? 0 : 1;
  counts_.regions_cleared += clearing_.count();
  for (std::uint64_t region = wanted_.next(0); region < wanted_.size(); region = wanted_.next(region + 1)) {
    pages_->set(region, true);
    committing_.set(region);
    wanted_.clear(region);
    pages.insert(pages_->page_of(region));
  }
  for (std::uint64_t region = clearing_.next(0); region < clearing_.size(); region = clearing_.next(region + 1)) {
    pages_->set(region, false);
    clearing_.clear(region);
    pages.insert(pages_->page_of(region));
  }
  for (std::uint64_t page = 0; all && page < pages_->pages(); ++page) pages.insert(page);
  asking_now_.swap(asking_);
  after_this_.swap(after_next_);
  write_cycle(std::move(pages), durable);
}

std::vector<std::uint32_t> Marks::targets() const {
  std::vector<std::uint32_t> all;
  const auto slots = static_cast<std::uint32_t>(core_.slots().size());
  if (core_.options().record == Record::external) return {slots};
  for (std::uint32_t i = 0; i < slots; ++i) {
    if (core_.slots()[i].takes_marks && core_.slots()[i].port != nullptr) all.push_back(i);
  }
  return all;
}

Port* Marks::port_of(std::uint32_t slot) const { return slot < core_.slots().size() ? core_.slots()[slot].port : core_.external_port(); }

std::vector<MetaRunner::Piece> Marks::pieces_of(const std::set<std::uint64_t>& pages) {
  std::vector<MetaRunner::Piece> pieces;
  for (auto page = pages.begin(); page != pages.end();) {
    const std::uint64_t first = *page;
    std::uint64_t count = 0;
    for (; page != pages.end() && *page == first + count; ++page) ++count;
    pieces.emplace_back(offset_blocks() + first, pages_->sealed(first, count));
  }
  return pieces;
}

void Marks::write_cycle(std::set<std::uint64_t> pages, bool durable) {
  const auto pieces = pieces_of(pages);
  failed_.clear();
  pending_ = 1;
  for (const std::uint32_t slot : targets()) {
    ++pending_;
    const std::uint64_t association = slot < core_.slots().size() ? core_.slots()[slot].association : 0;
    core_.runner().write(*port_of(slot), pieces, durable && core_.options().steps.flush_marks, core_.retries_for(slot),
                         [this, slot, association](Status status) {
                           if (status != Status::ok) failed_.push_back(slot);
                           if (status == Status::ok && slot < core_.slots().size() && !core_.same_association(slot, association))
                             stale_.push_back(slot);
                           if (--pending_ == 0) cycle_written();
                         });
  }
  if (--pending_ == 0) cycle_written();
}

// A member that does not have the marks is left out before anybody relies on them.
void Marks::cycle_written() {
  if (failed_.empty() && stale_.empty()) return cycle_over();
  pending_ = failed_.size() + stale_.size();
  const auto one_less = [this] {
    if (--pending_ == 0) cycle_over();
  };
  for (const std::uint32_t slot : std::exchange(stale_, {})) {
    FailureReport report;
    report.slot = slot;
    core_.handle_failure(report, one_less);
  }
  for (const std::uint32_t slot : std::exchange(failed_, {})) core_.record_failed(slot, one_less);
}

void Marks::cycle_over() {
  busy_ = false;
  for (std::uint64_t region = committing_.next(0); region < committing_.size(); region = committing_.next(region + 1)) {
    committing_.clear(region);
    if (!core_.frozen()) maps_.marked.set(region);
  }
  for (const auto& lane : std::exchange(asking_now_, {})) lane->executor().post([lane] { lane->marks_changed(); });
  for (const auto& call : std::exchange(after_this_, {})) call();
  watch();
  cycle();
}

// --- a member's bitmap, whole ---

void Marks::copy_to(std::uint32_t slot, std::function<void(bool)> done) {
  if (core_.options().record != Record::members) return done(true);
  copies_.push_back({slot, std::move(done)});
  if (!busy_) cycle();
}

void Marks::run_copy() {
  Copy copy = std::move(copies_.front());
  copies_.erase(copies_.begin());
  Port* port = port_of(copy.slot);
  if (port == nullptr) {
    copy.done(false);
    return cycle();
  }
  busy_ = true;
  std::vector<MetaRunner::Piece> all;
  all.emplace_back(offset_blocks(), pages_->sealed(0, pages_->pages()));
  core_.runner().write(*port, std::move(all), true, 0, [this, copy = std::move(copy)](Status status) {
    busy_ = false;
    if (status == Status::ok) core_.set_takes_marks(copy.slot);
    copy.done(status == Status::ok);
    cycle();
  });
}

void Marks::load(std::function<void()> done) {
  if (pages_ == nullptr) return done();
  std::vector<std::uint32_t> from;
  for (const std::uint32_t slot : targets()) {
    if (slot == core_.slots().size() || core_.slots()[slot].state == SlotState::in_sync) from.push_back(slot);
  }
  load_next(std::move(from), std::move(done));
}

void Marks::load_next(std::vector<std::uint32_t> from, std::function<void()> done) {
  if (from.empty()) return done();
  Port& port = *port_of(from.back());
  from.pop_back();
  auto buffer = std::make_shared<MetaBuffer>(pages_->pages() * core_.options().block_size);
  core_.runner().read(port, MetaRunner::Piece(offset_blocks(), buffer->bytes()),
                      [this, buffer, from = std::move(from), done = std::move(done)](Status status) {
                        // What cannot be read may have said anything.
                        if (status != Status::ok) std::ranges::fill(buffer->bytes(), std::byte{0});
                        const std::uint64_t bad = pages_->merge(0, buffer->bytes());
                        if (bad != 0)
                          log_warning("raid '{}': {} pages of a bitmap are not readable and count as all marked", core_.superblock().name, bad);
                        load_next(from, done);
                      });
}

void Marks::publish_all() {
  if (pages_ == nullptr) return;
  for (std::uint64_t region = 0; region < maps_.regions; ++region) {
    if (pages_->test(region)) maps_.marked.set(region);
  }
}

// --- clearing ---

bool Marks::may_clear() const {
  if (core_.frozen()) return false;
  return !core_.options().steps.keep_marks_while_missing || (!core_.anyone_missing() && !core_.changing());
}

// A deadline exists only while there are marks that could be cleared.
void Marks::watch() {
  if (alarm_->armed() || flushing_ || !may_clear()) return;
  // While copies run there will be something to clear, and which regions are copied is not worth a look at all of them each time.
  if (core_.sync().running() && maps_.marked.next(0) < maps_.regions) return alarm_->arm_in_us(core_.options().clear_after_us);
  for (std::uint64_t region = maps_.marked.next(0); region < maps_.regions; region = maps_.marked.next(region + 1)) {
    if (core_.sync().pending(region)) continue;
    alarm_->arm_in_us(core_.options().clear_after_us);
    return;
  }
}

void Marks::clear_copied() {
  if (!flushing_ && may_clear()) clear_quiet(false);
}

void Marks::look_for_quiet() {
  if (may_clear()) clear_quiet(true);
}

// `aging`: regions that were written since the last such look are quiet from now on, until the next one.
void Marks::clear_quiet(bool aging) {
  const Steps& steps = core_.options().steps;
  for (std::uint64_t region = maps_.marked.next(0); region < maps_.regions; region = maps_.marked.next(region + 1)) {
    if (core_.sync().pending(region)) continue;
    if (maps_.touched.test(region)) {
      if (aging) maps_.touched.clear(region);
      continue;
    }
    // First the mark away, then the look: see RegionMaps.
    maps_.marked.clear(region);
    const std::uint64_t first = region * maps_.region_blocks;
    const std::uint64_t count = std::min(maps_.region_blocks, core_.options().num_blocks - first);
    if (maps_.overlaps.busy(first, count) && steps.clear_without_writes) {
      maps_.marked.set(region);
      continue;
    }
    candidates_.set(region);
  }
  if (candidates_.empty()) return watch();
  flushing_ = true;
  if (!steps.flush_before_clear) return quiet_flushed(true);
  core_.flush_members([this](bool flushed) { quiet_flushed(flushed); });
}

void Marks::quiet_flushed(bool flushed) {
  flushing_ = false;
  const bool clear = flushed && may_clear();
  for (std::uint64_t region = candidates_.next(0); region < candidates_.size(); region = candidates_.next(region + 1)) {
    candidates_.clear(region);
    if (!clear || core_.sync().pending(region)) {
      maps_.marked.set(region);
    } else if (pages_ != nullptr) {
      clearing_.set(region);
    }
  }
  if (!busy_) cycle();
  watch();
}

void Marks::clear_all(std::function<void()> done) {
  disarm();
  if (pages_ == nullptr || !may_clear() || !core_.sync().finished()) return done();
  for (std::uint64_t region = 0; region < maps_.regions; ++region) {
    maps_.marked.clear(region);
    pages_->set(region, false);
  }
  write_everywhere(std::move(done));
}

}  // namespace catnap::bdev::raid1
