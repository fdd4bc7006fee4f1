// LibTorch functions that tch does not bind. `native.rs` documents each function.

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <dlfcn.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

// In the order of `native.rs`.
struct Update {
    const at::Tensor *tensor, *gradient, *first, *second;
};

struct AdamWStep {
    double rate, beta1, beta2, epsilon, weight_decay, gradient_divisor;
    int64_t step;
};

// The kernels require contiguous fp32.
void check(const Update &update) {
    for (auto *part : {update.tensor, update.gradient, update.first, update.second}) {
        TORCH_CHECK(part->is_contiguous() && part->scalar_type() == at::kFloat, "AdamW: expected contiguous fp32");
        TORCH_CHECK(part->sizes() == update.tensor->sizes() && part->device() == update.tensor->device(),
                    "AdamW: a gradient or moment is not like its tensor");
    }
}

void fused_adamw(const Update *updates, size_t count, const AdamWStep &step) {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors, gradients, firsts, seconds;
    for (auto *update = updates; update != updates + count; ++update) {
        check(*update);
        tensors.push_back(*update->tensor);
        gradients.push_back(*update->gradient);
        firsts.push_back(*update->first);
        seconds.push_back(*update->second);
    }
    if (tensors.empty()) return;
    auto scalar = [&](double value) { return at::full({}, value, firsts[0].options()); };
    std::vector<at::Tensor> steps(count, scalar(double(step.step)));
    std::optional<at::Tensor> divisor;
    if (step.gradient_divisor != 1.0) divisor = scalar(step.gradient_divisor);
    at::_fused_adamw_(tensors, gradients, firsts, seconds, {}, steps, step.rate, step.beta1, step.beta2,
                      step.weight_decay, step.epsilon, /*amsgrad=*/false, /*maximize=*/false, divisor);
}

}

extern "C" {

// Null, or an error message that stays valid until the thread's next call.
const char *seeward_fused_adamw(const Update *updates, size_t count, const AdamWStep *step) {
    static thread_local std::string problem;
    try {
        fused_adamw(updates, count, *step);
        return nullptr;
    } catch (const c10::Error &error) {
        problem = error.what_without_backtrace();
    } catch (const std::exception &error) {
        problem = error.what();
    }
    return problem.c_str();
}

void seeward_forget_gradient(const at::Tensor *tensor) {
    tensor->mutable_grad().reset();
}

// By the function that compilers call for `#pragma omp parallel`, looked up where LibTorch has loaded it: an own
// `-fopenmp` would link a second OpenMP.
void seeward_open_team(unsigned threads) {
    using Parallel = void (*)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
    auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    if (parallel) parallel([](void *) {}, nullptr, threads, 0);
}

void seeward_keep_freed_memory() {
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, 256 << 20);
#endif
}

// Both switches: PyTorch leaves cuDNN's on by default.
void seeward_allow_tf32(bool allow) {
    at::globalContext().setAllowTF32CuBLAS(allow);
    at::globalContext().setAllowTF32CuDNN(allow);
}

bool seeward_tf32_is_allowed() {
    return at::globalContext().allowTF32CuBLAS() && at::globalContext().allowTF32CuDNN();
}

// cuDNN builds a plan for every new shape of attention with a mask, which takes longer than a step.
void seeward_use_cudnn_attention(bool use) {
    at::globalContext().setSDPUseCuDNN(use);
}

bool seeward_cudnn_attention_is_used() {
    return at::globalContext().userEnabledCuDNNSDP();
}

// Bytes of that GPU's memory; -1 if it is missing.
int64_t seeward_gpu_memory(int index) {
    try {
        return c10::getDeviceAllocator(c10::kCUDA)->getMemoryInfo(index).second;
    } catch (const std::exception&) {
        return -1;
    }
}

// Peak bytes of tensors on that GPU; -1 if it is missing.
int64_t seeward_peak_gpu_memory(int index) {
    try {
        auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(index);
        return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
    } catch (const std::exception&) {
        return -1;
    }
}

}
