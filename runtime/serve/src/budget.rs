//! Budgets of bytes in memory.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bytes of a permit.
const UNIT: usize = 1024;

/// A budget of bytes.
pub(crate) fn budget(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits(bytes) as usize))
}

/// The permits for some bytes, at least one.
pub(crate) fn permits(bytes: usize) -> u32 {
    let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
    u32::try_from(bytes.div_ceil(UNIT).clamp(1, most)).unwrap_or(u32::MAX)
}
