// LibTorch's package has no Gloo headers. ProcessGroupGloo.hpp only points to these.
#pragma once
namespace gloo::transport {
class Device;
class UnboundBuffer;
}
