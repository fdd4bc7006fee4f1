//! The images that rows name by address: each address is fetched once, all at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use seeward_models::sample::ImageRef;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::errors::Refusal;
use crate::images::{Images, Place};
use crate::state::Service;
use crate::wire::Row;

type Content = Result<Arc<[u8]>, Refusal>;

/// The rows with the content of their images in place of addresses, and the places of these.
pub(crate) async fn resolve(
    service: &Arc<Service>,
    rows: Vec<Row>,
    deadline: Instant,
) -> (Vec<Row>, Vec<Place>) {
    let mut places = Vec::new();
    let fetched = fetch(service, &rows, deadline, &mut places).await;
    let replace = |row: Row| {
        let mut row = row?;
        Images::check_count(&row.images)?;
        for image in &mut row.images {
            if let Some(address) = image.address() {
                let content = fetched.get(address).cloned().unwrap_or_else(too_late)?;
                // Each row gets a copy.
                places.push(service.images.hold(content.len())?);
                *image = ImageRef::Bytes(content);
            }
        }
        Ok(row)
    };
    let rows = rows.into_iter().map(replace).collect();
    (rows, places)
}

/// What is at the addresses, as far as it comes before the deadline. A client that leaves ends it.
async fn fetch(
    service: &Arc<Service>,
    rows: &[Row],
    deadline: Instant,
    places: &mut Vec<Place>,
) -> HashMap<String, Content> {
    let mut fetched = HashMap::new();
    let mut work = JoinSet::new();
    let rows = rows.iter().flatten();
    let rows = rows.filter(|row| Images::check_count(&row.images).is_ok());
    for address in rows
        .flat_map(|row| &row.images)
        .filter_map(ImageRef::address)
    {
        if !fetched.contains_key(address) {
            fetched.insert(address.to_owned(), too_late());
            work.spawn(fetch_one(service.clone(), address.to_owned()));
        }
    }
    while let Ok(Some(done)) = timeout_at(deadline, work.join_next()).await {
        let Ok((address, content)) = done else {
            continue;
        };
        let held = content.and_then(|content| {
            places.push(service.images.hold(content.len())?);
            Ok(content)
        });
        fetched.insert(address, held);
    }
    fetched
}

async fn fetch_one(service: Arc<Service>, address: String) -> (String, Content) {
    let permit = service.fetchers.clone().acquire_owned().await;
    let name = address.clone();
    let work = move || {
        // A thread outlives the task that waits for it.
        let _permit = permit.map_err(Refusal::internal)?;
        service.images.remote.fetch(&name)
    };
    let done = tokio::task::spawn_blocking(work).await;
    let panicked = |_| Err(Refusal::internal("fetching an image panicked"));
    (address, done.unwrap_or_else(panicked))
}

fn too_late() -> Content {
    let message = "images: not fetched in time (--request-timeout)";
    Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, message))
}
