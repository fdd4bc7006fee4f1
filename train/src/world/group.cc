// A process group of c10d, LibTorch's distributed half: Gloo for tensors on the CPU, NCCL for those on GPUs. `group.rs`
// documents each function.

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef SEEWARD_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Bytes = std::vector<uint8_t>;
using Keys = c10::intrusive_ptr<c10d::Store>;

// In the order of `group.rs`.
struct Options {
    const char *host, *prefix;
    int64_t timeout_ms;
    int32_t rank, size, gpu;
    uint16_t port;
    bool hosts;
};

struct Group {
    Keys keys;
    c10::intrusive_ptr<c10d::Backend> host, data;  // the same group without GPUs
    int rank, size;
    bool hosts;
    // Shared with the watcher, which may live longer.
    std::shared_ptr<std::atomic<bool>> closes = std::make_shared<std::atomic<bool>>(false);
};

constexpr auto FAILED = "failed", LEFT = "left";
// Time in which the others read an error from the store of a process that ends.
constexpr auto LINGER = std::chrono::seconds(2);

template <typename F>
const char *caught(F f) {
    static thread_local std::string problem;
    try {
        f();
        return nullptr;
    } catch (const c10::Error &error) {
        problem = error.what_without_backtrace();
    } catch (const std::exception &error) {
        problem = error.what();
    }
    return problem.c_str();
}

std::string named(int rank) {
    return "rank " + std::to_string(rank);
}

std::string waited_for_error(c10d::Store &keys) {
    keys.wait({FAILED}, std::chrono::hours(24 * 365));
    auto text = keys.get(FAILED);
    return {text.begin(), text.end()};
}

// Ends this process once another one has failed, or the store is lost.
void watch(Keys keys, int rank, bool hosts, std::shared_ptr<std::atomic<bool>> closes) {
    std::string error;
    try {
        error = waited_for_error(*keys);
    } catch (const std::exception &) {
        error = "the process that hosts the store (rank 0, or its launcher) has ended without a message";
    }
    bool is_own = error.rfind(named(rank) + ": ", 0) == 0;
    if (*closes || error.empty() || is_own) return;
    auto line = "error: " + error + "\n";
    (void)!write(STDERR_FILENO, line.data(), line.size());
    if (hosts) std::this_thread::sleep_for(LINGER);
    _exit(2);
}

// Waits until every rank has come.
void meet(c10d::Store &keys, const Options &options) {
    auto key = [](int rank) { return "here/" + std::to_string(rank); };
    auto end = Clock::now() + milliseconds(options.timeout_ms);
    keys.set(key(options.rank), Bytes{1});
    std::string missing;
    for (int rank = 0; rank < options.size; ++rank) {
        auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
        try {
            keys.wait({key(rank)}, std::max(left, milliseconds(1)));
        } catch (const std::exception &) {
            missing += (missing.empty() ? "" : ", ") + named(rank);
        }
    }
    TORCH_CHECK(missing.empty(), missing, " did not come within ", options.timeout_ms / 1000, " s (ddp_timeout)");
}

c10::intrusive_ptr<c10d::Backend> nccl(const Options &options, const Keys &keys) {
#ifdef SEEWARD_NCCL
    // NVLink's own reduction gives other bits in every run.
    setenv("NCCL_ALGO", "^NVLS", /*overwrite=*/0);
    auto settings = c10d::ProcessGroupNCCL::Options::create();
    settings->timeout = milliseconds(options.timeout_ms);
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", keys), options.rank,
                                                      options.size, settings);
#else
    TORCH_CHECK(false, "this program is built without NCCL, which several GPUs need: train on one");
#endif
}

// Connects the group's two backends.
void join(Group &group, const Options &options) {
    meet(*group.keys, options);
    auto gloo = c10d::ProcessGroupGloo::Options::create_default(milliseconds(options.timeout_ms));
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>("gloo", group.keys);
    group.host = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, options.rank, options.size, gloo);
    group.data = options.gpu < 0 ? group.host : nccl(options, group.keys);
}

std::unique_ptr<Group> open(const Options &options) {
    setenv("TORCH_CPP_LOG_LEVEL", "FATAL", /*overwrite=*/0);  // c10d logs the end of every connection with its stack
    c10d::TCPStoreOptions at;
    at.port = options.port;
    at.isServer = options.hosts;
    at.timeout = milliseconds(options.timeout_ms);
    at.waitWorkers = false;
    auto store = c10::make_intrusive<c10d::TCPStore>(options.host, at);
    auto group = std::make_unique<Group>();
    group->keys = c10::make_intrusive<c10d::PrefixStore>(options.prefix, store);
    group->rank = options.rank;
    group->size = options.size;
    group->hosts = options.hosts;
    // Waiting on a connection blocks it, so the watcher has a separate one.
    auto watched = c10::make_intrusive<c10d::PrefixStore>(options.prefix, store->clone());
    std::thread(watch, watched, options.rank, options.hosts, group->closes).detach();
    try {
        join(*group, options);
    } catch (...) {
        *group->closes = true;
        throw;
    }
    return group;
}

c10d::Backend &backend(Group &group, const at::Tensor &tensor) {
    return tensor.is_cpu() ? *group.host : *group.data;
}

}

extern "C" {

const char *seeward_group_open(const Options *options, Group **opened) {
    return caught([&] { *opened = open(*options).release(); });
}

const char *seeward_group_reduce_scatter(Group *group, const at::Tensor *out, const at::Tensor *in) {
    return caught([&] {
        at::NoGradGuard no_grad;
        at::Tensor to = *out, from = *in;
        backend(*group, from)._reduce_scatter_base(to, from)->wait();
    });
}

const char *seeward_group_all_gather(Group *group, const at::Tensor *out, const at::Tensor *in) {
    return caught([&] {
        at::NoGradGuard no_grad;
        at::Tensor to = *out, from = *in;
        backend(*group, from)._allgather_base(to, from)->wait();
    });
}

// The first to fail is heard: later errors are its consequences.
void seeward_group_fail(Group *group, const char *why) {
    caught([&] {
        auto text = named(group->rank) + ": " + why;
        group->keys->compareSet(FAILED, Bytes{}, Bytes(text.begin(), text.end()));
    });
    std::this_thread::sleep_for(LINGER);
}

// The store ends with its host, which therefore leaves last.
const char *seeward_group_close(Group *group) {
    return caught([&] {
        group->host->barrier()->wait();
        *group->closes = true;
        if (group->hosts) group->keys->set(FAILED, Bytes{});
        auto left = group->keys->add(LEFT, 1);
        while (group->hosts && left < group->size) {
            std::this_thread::sleep_for(milliseconds(5));
            left = group->keys->add(LEFT, 0);
        }
        delete group;
    });
}

}
