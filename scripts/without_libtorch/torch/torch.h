/* Found only where LibTorch's own header is not: .cargo/config.toml has this folder searched last.
   A missing include ends the compilation at once, where #error would go on to thousands of messages. */
#include "LibTorch is missing: run `make setup`"
