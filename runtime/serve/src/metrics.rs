//! Counters and times, in Prometheus' text format.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use seeward_models::process::resident_memory;
use seeward_runtime::{BatcherStatus, ImageCacheUsage, Times};

/// A route and the status of its answer.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

/// What the service has done.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    request_seconds: Family<Route, Histogram>,
    stage_seconds: Family<Stage, Histogram>,
    cancelled: Counter,
    pub(crate) connections: Gauge,
    state: State,
}

/// Values that are read when they are asked for.
#[derive(Default)]
struct State {
    ready: Gauge,
    queue_requests: Gauge,
    queue_bytes: Gauge,
    responses: Counter,
    tokens: Counter,
    tokens_unshared: Counter,
    images_encoded: Counter,
    cache_bytes: Gauge,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_evictions: Counter,
    memory_bytes: Gauge,
}

/// What `/metrics` shows besides the counters of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) is_ready: bool,
    pub(crate) batcher: BatcherStatus,
    pub(crate) cache: ImageCacheUsage,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 20));
        let mut metrics = Self {
            registry: Registry::with_prefix("seeward"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            stage_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            cancelled: Counter::default(),
            connections: Gauge::default(),
            state: State::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let requests = self.requests.clone();
        registry.register("requests", "Answered requests", requests);
        let seconds = self.request_seconds.clone();
        registry.register_with_unit("request", "Time of a request", Unit::Seconds, seconds);
        let stages = self.stage_seconds.clone();
        registry.register_with_unit("stage", "Time of its parts", Unit::Seconds, stages);
        let cancelled = self.cancelled.clone();
        registry.register("cancelled", "Requests whose client left", cancelled);
        let connections = self.connections.clone();
        registry.register("connections", "Open connections", connections);
        self.state.register(registry);
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: &str, status: u16, time: Duration) {
        let route = route.to_owned();
        let seconds = self.request_seconds.get_or_create(&Route {
            route: route.clone(),
        });
        seconds.observe(time.as_secs_f64());
        self.requests
            .get_or_create(&Answered { route, status })
            .inc();
    }

    /// Counts the parts of a scored request's time.
    pub(crate) fn scored(&self, read: Duration, times: &Times) {
        for (stage, time) in [
            ("read", read),
            ("queue", times.queue),
            ("prepare", times.prepare),
            ("vision", times.vision),
            ("reward", times.reward),
        ] {
            let seconds = self.stage_seconds.get_or_create(&Stage { stage });
            seconds.observe(time.as_secs_f64());
        }
    }

    /// Counts a request whose client left before its answer.
    pub(crate) fn cancelled(&self) {
        self.cancelled.inc();
    }

    /// The page.
    ///
    /// # Errors
    /// None that is known: the encoder's signature has one.
    pub(crate) fn page(&self, snapshot: &Snapshot) -> Result<String, fmt::Error> {
        self.state.set(snapshot);
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl State {
    fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("responses", "Scored responses", &self.responses);
        counter("tokens", "Tokens that the model computed", &self.tokens);
        let help = "Tokens that separate conversations would have taken";
        counter("tokens_unshared", help, &self.tokens_unshared);
        counter(
            "images_encoded",
            "Images that the model encoded",
            &self.images_encoded,
        );
        counter(
            "image_cache_hits",
            "Images found in the cache",
            &self.cache_hits,
        );
        counter(
            "image_cache_misses",
            "Images not found there",
            &self.cache_misses,
        );
        counter(
            "image_cache_evictions",
            "Images removed from it",
            &self.cache_evictions,
        );
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge("ready", "1 if requests are answered", &self.ready);
        gauge(
            "queue_requests",
            "Requests that wait for the engine",
            &self.queue_requests,
        );
        gauge("queue_bytes", "Their bytes", &self.queue_bytes);
        gauge(
            "image_cache_bytes",
            "Bytes of image embeddings",
            &self.cache_bytes,
        );
        gauge(
            "memory_bytes",
            "Resident memory of the process",
            &self.memory_bytes,
        );
    }

    fn set(&self, snapshot: &Snapshot) {
        let (usage, cache) = (&snapshot.batcher.usage, &snapshot.cache);
        for (counter, value) in [
            (&self.responses, usage.responses),
            (&self.tokens, usage.tokens),
            (&self.tokens_unshared, usage.tokens_without_sharing),
            (&self.images_encoded, usage.images_encoded),
            (&self.cache_hits, cache.hits),
            (&self.cache_misses, cache.misses),
            (&self.cache_evictions, cache.evictions),
        ] {
            counter
                .inner()
                .store(value, std::sync::atomic::Ordering::Relaxed);
        }
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.ready.set(i64::from(snapshot.is_ready));
        self.queue_requests
            .set(whole(snapshot.batcher.waiting as u64));
        self.queue_bytes
            .set(whole(snapshot.batcher.waiting_bytes as u64));
        self.cache_bytes.set(whole(cache.bytes));
        self.memory_bytes.set(whole(resident_memory().unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_counted() {
        let metrics = Metrics::new();
        metrics.answered("/v1/rewards", 200, Duration::from_millis(3));
        metrics.answered("/v1/rewards", 422, Duration::from_millis(3));
        metrics.scored(Duration::ZERO, &Times::default());
        metrics.cancelled();
        let mut snapshot = Snapshot::default();
        (snapshot.is_ready, snapshot.batcher.waiting) = (true, 7);
        snapshot.cache.hits = 5;
        for _ in 0..2 {
            // Asking twice counts nothing twice.
            let page = metrics.page(&snapshot).unwrap();
            for line in [
                "seeward_requests_total{route=\"/v1/rewards\",status=\"200\"} 1",
                "seeward_requests_total{route=\"/v1/rewards\",status=\"422\"} 1",
                "seeward_request_seconds_count{route=\"/v1/rewards\"} 2",
                "seeward_stage_seconds_count{stage=\"vision\"} 1",
                "seeward_cancelled_total 1",
                "seeward_queue_requests 7",
                "seeward_image_cache_hits_total 5",
                "seeward_ready 1",
            ] {
                assert!(page.contains(&format!("\n{line}\n")), "{line} in:\n{page}");
            }
        }
    }
}
