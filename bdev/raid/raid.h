// RAID arrays: one bdev over several. This file is the frame: an array with its members from the create call to the delete call, and the interface of
// a level (raid0, concat, raid1), which carries out I/O and knows what a member's loss or return means.
//
// An array exists from bdev_raid_create (or from the first superblock that examine finds) until bdev_raid_delete. Its bdev (RaidBdev, raid_bdev.h)
// exists only while the array is online. Who does what:
//
//   RaidArray (raid.cpp, this file)   opens, claims and follows member bdevs; has the level start when they are there; registers and removes the
//                                     bdev; names states; tells listeners about changes. Knows no I/O and no on-disk format.
//   RaidArrays (raid_arrays.h)        all arrays; examine (names and superblocks, in any order of arrival); configuration.
//   RaidLevel (this file)             what differs between levels. raid0.h, concat.h, raid1.h implement it.
//   RaidBdev, RaidChannel             I/O: raid_bdev.h. A channel has one lane (a channel of the member) per member that is there.
//   superblock.h                      what stands on members. The frame asks two things of it: read_raid_superblock(bdev), for examine, and
//                                     clear_raid_superblock(bdev), for bdev_raid_delete; what it means is for levels to say.
//
// Owner: everything here belongs to app_thread; RaidChannels to their threads. The frame calls a level's Tasks one at a time for each array
// (start, member_lost, member_returned … never overlap), so a level needs no lock between them; progress() and the JSON texts may be asked meanwhile.
// Left out: JSON-RPC (raid_rpc.h).
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bdev/bdev.h"
#include "bdev/raid/member_facts.h"
#include "reactor/task.h"

namespace catnap::bdev {

class RaidArray;
class RaidBdev;
class RaidChannel;

enum class RaidKind : std::uint8_t { raid0, raid1, concat };
std::string_view raid_kind_name(RaidKind kind);  // "raid0", "raid1", "concat"

// SPDK's three (bdev_raid_get_bdevs, category).
enum class RaidState : std::uint8_t {
  configuring,  // waits for members, or starts
  online,       // the bdev is there
  offline,      // it was online and lost what it needs; comes back when that does
};
std::string_view raid_state_name(RaidState state);

enum class MemberState : std::uint8_t {
  missing,     // no bdev, or one that is not the member (see reason)
  waiting,     // there, while the array is not online
  in_sync,     // holds all data
  rebuilding,  // gets every write, serves no read where it may differ
  failed,      // there, but not used: an error, or it diverged (see reason); bdev_raid_add_base_bdev takes it in again as if it were new
};
std::string_view member_state_name(MemberState state);

// Most members of one array, as SPDK's RPC takes.
inline constexpr std::size_t max_raid_members = 255;

// What bdev_raid_create says. Immutable for an array but for the members' names.
struct RaidOptions {
  RaidOptions() = default;
  std::string name;
  std::string uuid;  // empty: made up when the array is created
  RaidKind kind = RaidKind::raid0;
  std::uint32_t strip_size_kib = 0;  // raid0, concat: power of two, at least a block; raid1: 0
  std::vector<std::string> members;  // names, aliases or UUIDs; "": a slot left empty (raid1 only)
  bool superblock = false;
  // raid1 only, refused elsewhere.
  std::string bitmap_bdev;              // holds the bitmap where there is no superblock
  std::string bitmap_file;              // likewise; bitmap_bdev is then the bdev made of it (bitmap_file_rpc.h)
  std::uint32_t bitmap_region_kib = 0;  // 0: raid1's default
  bool assume_clean = false;            // members are known to be equal: create marks nothing
  // Members that do not hold all data, by name: the array does not wait for them, and copies them whole. (Where neither superblock nor bitmap say
  // so.)
  std::vector<std::string> out_of_sync;
};

// The bdev that is made of an array's bitmap_file.
std::string raid_bitmap_bdev_name(const std::string& array_name);

// Errors: EINVAL naming what does not fit, as far as it can be said without looking at members. `discovered`: members have no names yet.
Result<void> check_raid_options(const RaidOptions& options, bool discovered);

// bdev_raid_set_options: one set for all arrays, taken up by what runs as well (RaidLevel::settings_changed).
struct RaidSettings {
  RaidSettings() = default;
  std::uint32_t process_window_size_kib = 1024;     // SPDK's default; one copy step of a rebuild, resync or scrub
  std::uint32_t process_max_bandwidth_mib_sec = 0;  // 0: no limit but that foreground I/O goes first
};
RaidSettings& raid_settings();

// One slot of an array.
struct RaidMember {
  RaidMember() = default;
  std::uint32_t slot = 0;
  std::string name;  // of the bdev there, or that is waited for; empty: an empty slot
  std::string uuid;  // of the bdev that is or was there; empty: never seen
  MemberState state = MemberState::missing;
  std::string reason;  // why it is missing or failed, a sentence's part; empty: never there, or fine
  // It was left out, or has never held all data, and that stands on no disk of the array (raid1 without superblock and bitmap): see member_notes.h.
  bool out_of_sync = false;
  // Of a bdev that may be lost and found again below us (bdev/association.h): how often it was, and the last time that the array dealt with.
  Associations associations;
  std::uint64_t associations_known = 0;
  std::shared_ptr<void> association_watch;
  std::unique_ptr<Descriptor> descriptor;  // opened and claimed while the bdev is there (failed ones too); null: not there
  // Where the array's data begins and how much there may be, in blocks; set by RaidLevel::shape().
  std::uint64_t data_offset_blocks = 0;
  std::uint64_t data_blocks = 0;

  bool present() const { return descriptor != nullptr; }
  Bdev& bdev() const { return descriptor->bdev(); }
};

// What a rebuild, resync or scrub has done so far.
struct RaidProgress {
  RaidProgress() = default;
  std::string type;    // "rebuild" (SPDK's), "resync", "scrub"
  std::string target;  // the member being filled; empty where there is no single one
  std::uint64_t blocks_done = 0;
  std::uint64_t blocks_total = 0;
  std::uint64_t blocks_copied = 0;  // written to a member (≤ done: what is equal or unmarked is passed over)
};

// A scrub's parameters.
struct ScrubOptions {
  ScrubOptions() = default;
  bool repair = false;
  std::uint32_t max_bandwidth_mib_sec = 0;  // 0: as RaidSettings say
};

// What a level does. One object per array, made with it and dying with it (it outlives RaidBdev). Tasks run on app_thread.
class RaidLevel {
 public:
  explicit RaidLevel(RaidArray& array) : array_(array) {}
  virtual ~RaidLevel() = default;
  RaidLevel(const RaidLevel&) = delete;
  RaidLevel& operator=(const RaidLevel&) = delete;

  // Whether members that are there fit each other and the options, looked at whenever one comes, before anything is written: block sizes, sizes.
  // Fills each present member's data_offset_blocks and data_blocks, and of `info` block sizes, num_blocks, optimal boundary, what unmap promises …
  // (name, uuid and product are the frame's). Errors: EINVAL naming the member, its value and what was expected.
  virtual Result<void> shape(BdevInfo& info) = 0;

  // Whether the array can do without the members that are missing. Called after each arrival, and with `forced` by bdev_raid_start. Reads superblocks
  // where there are some; may set members to failed (diverged, out of date). Nothing: wait for more; array().set_waits_for() says for whom.
  // Errors: cannot ever start like that (the array stays configuring, the error is shown).
  virtual Task<Result<bool>> ready(bool forced) = 0;
  // Brings it up: superblocks and bitmap written or read, what has to be resynced known; from now on I/O may come. The RaidBdev exists (bdev()), is
  // not yet registered. Sets states of members with array().set_member_state(); those that it leaves waiting
  // are in sync. After an error the array is as before (configuring).
  virtual Task<Result<void>> start(bool forced) = 0;
  // The last channel of the RaidBdev is gone (no I/O any more): stops background work, leaves the members clean. Members are closed afterwards
  // if `deleting` (bdev_raid_delete; the frame clears superblocks itself when asked to), else some stay open and start() may come again.
  virtual Task<void> stop(bool deleting) = 0;

  // A channel for I/O of the RaidBdev. On any thread; lanes are filled in by the frame afterwards.
  virtual std::unique_ptr<RaidChannel> make_channel(RaidBdev& bdev, Thread& thread) = 0;
  // Asked on app_thread whenever lanes were attached.
  virtual bool supports(Op op) const = 0;

  // While online:
  // The member's bdev is being removed (descriptor event). The level stops using it and makes that durable where it has to; then the frame detaches
  // its lanes and closes it. False: the array cannot go on without it, the frame takes it offline.
  virtual Task<bool> member_lost(std::uint32_t slot) = 0;
  // A bdev is there again for a slot (opened, lanes attached): by itself (`new_member` false: same name, UUID or superblock as before: delta
  // rebuild where possible) or by bdev_raid_add_base_bdev (true: everything is copied). Errors: refused; the frame closes it again.
  virtual Task<Result<void>> member_arrived(std::uint32_t slot, bool new_member) = 0;
  // A member in use has a new association (bdev/association.h), also where no I/O goes there now. As it stands: nothing to do.
  virtual void member_found_again(std::uint32_t slot) { (void)slot; }
  // bdev_raid_remove_base_bdev. Errors (EBUSY: the last one with all data; ENOTSUP: level without redundancy): nothing has changed.
  virtual Task<Result<void>> remove_member(std::uint32_t slot) = 0;
  // Whether a member that arrives fits the array that is online: as it stands, shape() with it gives no smaller array with the same blocks. Fills its
  // data_offset_blocks and data_blocks.
  virtual Result<void> fits(std::uint32_t slot);
  // Members have other sizes now: the new number of blocks, or the present one when nothing follows from it. Called by bdev_raid_grow_base_bdev, and
  // at each resize of a member where the level grows by itself (raid0, concat).
  virtual bool grows_by_itself() const { return true; }
  virtual Task<Result<std::uint64_t>> grow() = 0;

  // The bdev that holds the bitmap is being removed; the frame closes it afterwards. As it stands: nothing to do.
  virtual Task<void> bitmap_lost();
  // It is there again, open, while the array is online.
  virtual Task<void> bitmap_returned();
  // Since its last stop() everything is on all members alike, and nothing stands on them that says so.
  virtual bool stopped_whole() const { return false; }

  virtual std::optional<RaidProgress> progress() const { return std::nullopt; }
  // "none", "memory", "superblock", "bdev", "file": where write intents are kept; empty: the level has none.
  virtual std::string bitmap_kind() const { return {}; }
  // bdev_raid_get_bitmap's answer, a JSON object. Errors: ENOTSUP.
  virtual Result<std::string> bitmap_json(bool with_ranges) const;
  // Keys of its own for bdev_raid_get_bdevs: a JSON object whose members are added; "{}": none.
  virtual std::string info_json() const { return "{}"; }
  virtual Result<void> start_scrub(const ScrubOptions& options);  // ENOTSUP as it stands
  virtual Result<void> stop_scrub();
  virtual void settings_changed() {}

 protected:
  RaidArray& array() const { return array_; }

 private:
  RaidArray& array_;
};

// Makes the level of an array (raid_levels.cpp). Errors: EINVAL, ENOTSUP about options that the level does not take.
Result<std::unique_ptr<RaidLevel>> make_raid_level(RaidArray& array);

// Tasks of one array, one at a time, in order of arrival.
class RaidTurns {
 public:
  class Turn {
   public:
    explicit Turn(std::shared_ptr<RaidTurns> turns) : turns_(std::move(turns)) {}
    Turn(Turn&&) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->give();
    }

   private:
    std::shared_ptr<RaidTurns> turns_;
  };
  // `co_await turns->take();`: it is the caller's turn then (at once when it is nobody's), and it holds a Turn until it is done.
  class Taking {
   public:
    explicit Taking(RaidTurns& turns) : turns_(turns) {}
    bool await_ready() const noexcept { return !std::exchange(turns_.taken_, true); }
    void await_suspend(std::coroutine_handle<> waiter) const { turns_.waiting_.push_back(waiter); }
    void await_resume() const noexcept {}

   private:
    RaidTurns& turns_;
  };
  Taking take() { return Taking(*this); }

 private:
  void give();
  bool taken_ = false;
  std::deque<std::coroutine_handle<>> waiting_;
};

// One array, from its creation to its deletion. Always in a shared_ptr: sequences under way keep it.
class RaidArray : public std::enable_shared_from_this<RaidArray> {
 public:
  static constexpr const char* product = "Raid Volume";  // SPDK's
  static constexpr const char* opener = "raid";          // who claims the members
  // What happened, for notifications: type (notification_types) and whom it is about: the array, or "array/member".
  static constexpr const char* state_event = "bdev_raid_state";
  static constexpr const char* member_event = "bdev_raid_member_state";
  static constexpr const char* process_start_event = "bdev_raid_process_start";
  static constexpr const char* process_end_event = "bdev_raid_process_end";
  using Listener = std::function<void(std::string_view type, const std::string& context)>;
  static void set_listener(Listener listener);

  // Only the object: RaidArrays::create() goes on. `discovered`: the options come from a superblock, so superblocks are read and not written anew.
  // Errors: EINVAL naming what does not fit in options (members are not looked at).
  static Result<std::shared_ptr<RaidArray>> make(RaidOptions options, bool discovered);
  RaidArray(RaidOptions options, bool discovered);
  ~RaidArray();

  // What levels ask and tell.
  const RaidOptions& options() const { return options_; }
  const std::string& name() const { return options_.name; }
  const std::string& uuid() const { return options_.uuid; }
  bool discovered() const { return discovered_; }
  // Superblocks say all there is to say about it: it need not be in the configuration.
  bool is_on_disk() const { return options_.superblock && (discovered_ || was_online_); }
  // raid1 without superblock and bitmap: nothing stands on any disk that says who holds all data.
  bool keeps_no_record() const { return options_.kind == RaidKind::raid1 && !options_.superblock && options_.bitmap_bdev.empty(); }
  // Slots 0..size-1, as many as the create call named; they stay as long as the array does.
  const std::vector<std::unique_ptr<RaidMember>>& members() const { return members_; }
  RaidMember& member(std::uint32_t slot) const { return *members_.at(slot); }
  // While starting, online and stopping; else null.
  const std::shared_ptr<RaidBdev>& bdev() const { return bdev_; }
  // bitmap_bdev, opened and claimed; null: none is wished for, or it went. The array does not start before it is there.
  Descriptor* bitmap_descriptor() const { return bitmap_.get(); }
  // Told to listeners and the log; the frame acts on none of them.
  void set_member_state(std::uint32_t slot, MemberState state, std::string reason = {});
  // For bdev_raid_get_bdevs and the log, "base bdev 'x'"; cleared by the frame whenever it asks ready() again.
  void set_waits_for(std::string text);
  // Something of the array's own state changed that info_json() shows: listeners are told as of another RaidState.
  void tell_state() const { tell(state_event, name()); }
  // A rebuild, resync or scrub began or ended.
  void process_started(std::string_view type);
  // `last`: what it had done by then, shown from now on as "last_TYPE".
  void process_ended(std::string_view type, std::string_view how, RaidProgress last);
  // The level does not use the member any more (an error; it has set it to failed): its lanes are detached when it is the frame's turn, which may be
  // after the present Task. It stays in its slot, open and claimed; when it is a remote one that is found again, member_arrived() follows. On
  // app_thread, also from outside Tasks.
  void member_dropped(std::uint32_t slot);

  // What RaidArrays and RPCs ask; each waits for its turn.
  RaidState state() const { return state_; }
  const std::string& waits_for() const { return waits_for_; }
  RaidLevel& level() const { return *level_; }
  std::uint32_t members_present() const;
  // Whether a bdev of that name, alias or UUID is awaited in a slot, or as the bitmap.
  bool awaits(const Bdev& bdev) const;
  // Opens members (and bitmap) that are awaited and there, and starts if that is enough. Errors: the array cannot be started with them (they
  // stay open), or one that is there cannot be opened.
  Task<Result<void>> look_for_members(bool forced);
  // A bdev whose superblock says that it is that slot's.
  Task<Result<void>> member_found(std::uint32_t slot, std::string bdev_name);
  Task<Result<void>> add_member(std::string bdev_name);
  Task<Result<void>> remove_member(std::uint32_t slot);
  Task<Result<void>> grow();
  // Removes the bdev and closes everything; the answer comes when all is gone.
  Task<Result<void>> remove(bool clear_superblock);
  // RaidBdev::destroy().
  Task<void> bdev_gone();

  std::string config_json() const;
  // bdev_raid_get_bdevs's entry (an object), which is also driver_specific.raid of bdev_get_bdevs.
  std::string info_json() const;

 private:
  Result<void> open_member(std::uint32_t slot, const std::shared_ptr<Bdev>& bdev);
  Result<void> open_bitmap();
  void close_member(std::uint32_t slot, MemberState state, std::string reason);
  void member_event_for(std::uint32_t slot, Event event);
  Result<void> open_awaited(std::vector<std::uint32_t>& opened);
  Result<std::uint32_t> slot_for(const Bdev& bdev) const;
  Task<Result<void>> try_start(bool forced);
  Task<Result<void>> bring_up(bool forced);
  Task<Result<void>> bring_in(std::uint32_t slot, bool new_member);
  Task<void> lose_member(std::uint32_t slot);
  Task<void> close_dropped(std::uint32_t slot);
  Task<void> take_back(std::uint32_t slot);
  Task<void> lose_bitmap();
  Task<void> follow_size(std::uint32_t slot);
  void take_offline(std::string reason);
  void close_lost_members();
  void set_state(RaidState state);
  void look_at_association(std::uint32_t slot);
  void tell(std::string_view type, const std::string& context) const;

  RaidOptions options_;
  const bool discovered_;
  RaidState state_ = RaidState::configuring;
  bool removing_ = false;
  bool was_online_ = false;
  std::string waits_for_;
  std::vector<std::unique_ptr<RaidMember>> members_;
  std::unique_ptr<Descriptor> bitmap_;
  std::unique_ptr<RaidLevel> level_;
  std::shared_ptr<RaidBdev> bdev_;
  std::shared_ptr<RaidTurns> turns_;
  std::map<std::string, std::pair<std::string, RaidProgress>, std::less<>> last_processes_;  // by type: how it ended, and what it had done
  std::vector<Promise<bool>> when_gone_;                                                     // set when the bdev is gone
};

}  // namespace catnap::bdev
