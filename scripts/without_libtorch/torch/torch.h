/* Found only if LibTorch's own header is missing: .cargo/config.toml makes the compiler search this folder last.
   A missing include ends the compilation at once, while #error would continue to thousands of messages. */
#include "LibTorch is missing: run `make setup`"
