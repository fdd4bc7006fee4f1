// What LibTorch can do and tch does not bind.

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

extern "C" {

// Both switches: PyTorch leaves cuDNN's on where nobody says otherwise.
void seeward_allow_tf32(bool allow) {
    at::globalContext().setAllowTF32CuBLAS(allow);
    at::globalContext().setAllowTF32CuDNN(allow);
}

bool seeward_tf32_is_allowed() {
    return at::globalContext().allowTF32CuBLAS() && at::globalContext().allowTF32CuDNN();
}

// The most bytes that tensors have taken on that GPU at one time; -1 without it.
int64_t seeward_peak_gpu_memory(int index) {
    try {
        auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(index);
        return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
    } catch (const std::exception&) {
        return -1;
    }
}

}
