//! What all connections share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use seeward_runtime::{Batcher, ImageCacheUsage, RewardModel};
use tokio::sync::Semaphore;

use crate::budget::budget;
use crate::errors::Refusal;
use crate::health::Health;
use crate::images::Images;
use crate::keys::Keys;
use crate::metrics::{Metrics, Snapshot};
use crate::wire::Context;

/// Images that are fetched at once.
const FETCHERS: usize = 32;

/// The limits and formats of requests.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) max_body: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) stall: Duration,
    pub(crate) context: Context,
}

/// The service.
pub(crate) struct Service {
    pub(crate) settings: Settings,
    pub(crate) images: Images,
    pub(crate) keys: Keys,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    /// For bodies in memory.
    pub(crate) budget: Arc<Semaphore>,
    /// Permits for threads that parse and decode.
    pub(crate) workers: Semaphore,
    /// Permits for threads that wait for other hosts.
    pub(crate) fetchers: Arc<Semaphore>,
    model: OnceLock<Loaded>,
}

/// The model, once it has been loaded and checked.
pub(crate) struct Loaded {
    /// The bundle on each device.
    pub(crate) models: Vec<RewardModel>,
    pub(crate) batcher: Batcher,
    pub(crate) name: String,
    /// What the probes have shown.
    pub(crate) probes: String,
}

impl Service {
    pub(crate) fn new(settings: Settings, images: Images, keys: Keys) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            budget: budget(settings.queue_bytes),
            workers: Semaphore::new(workers),
            fetchers: Arc::new(Semaphore::new(FETCHERS)),
            health: Health::default(),
            metrics: Metrics::new(),
            model: OnceLock::new(),
            settings,
            images,
            keys,
        }
    }

    /// The model is ready.
    pub(crate) fn set_model(&self, loaded: Loaded) {
        // It is loaded once.
        let _ = self.model.set(loaded);
    }

    /// # Errors
    /// 503 while the model is being loaded.
    pub(crate) fn model(&self) -> Result<&Loaded, Refusal> {
        let loading = || Refusal::unavailable("the model is being loaded", 5);
        self.model.get().ok_or_else(loading)
    }

    /// # Errors
    /// 503 with the reason why requests should not be sent now.
    pub(crate) fn check_ready(&self) -> Result<(), Refusal> {
        if self.health.is_draining() {
            return Err(Refusal::unavailable("the service is shutting down", 5));
        }
        let running = self.model()?.batcher.status().running;
        if let Some(time) = running.filter(|time| *time > self.settings.stall) {
            let problem = format!("a run of the engine has taken {} s", time.as_secs());
            return Err(Refusal::unavailable(problem, 30));
        }
        match self.health.failure() {
            None => Ok(()),
            Some(problem) => Err(Refusal::unavailable(problem, 30)),
        }
    }

    /// The values of `/metrics`.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let loaded = self.model.get();
        let models = loaded.map_or(&[][..], |loaded| &loaded.models);
        let mut cache = ImageCacheUsage::default();
        for usage in models.iter().filter_map(RewardModel::image_cache) {
            cache += usage;
        }
        Snapshot {
            is_ready: self.check_ready().is_ok(),
            batcher: loaded.map(|m| m.batcher.status()).unwrap_or_default(),
            cache,
        }
    }

    /// Answers every accepted request.
    pub(crate) fn close(&self) {
        if let Some(loaded) = self.model.get() {
            loaded.batcher.close();
        }
    }
}
