//! Errors as clients see them: one JSON shape on every path.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use seeward_runtime::Error;
use serde::Serialize;

/// A refused request.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The key or the place of the request that is wrong.
    param: Option<String>,
    retry_after: Option<u32>,
}

/// The body of a refusal, as OpenAI's and vLLM's servers write it, with what ms-swift's client looks for.
#[derive(Serialize)]
struct ErrorBody {
    object: &'static str,
    message: String,
    error: Details,
}

/// The error itself.
#[derive(Serialize)]
pub(crate) struct Details {
    message: String,
    r#type: &'static str,
    code: u16,
    param: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl ToString) -> Self {
        Self {
            status,
            message: message.to_string(),
            param: None,
            retry_after: None,
        }
    }

    /// A request that is not JSON or lacks what its route needs.
    pub(crate) fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A request that cannot be scored.
    pub(crate) fn unprocessable(message: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// A request that another time may be answered.
    pub(crate) fn unavailable(message: impl ToString, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// A failure of this program or of the engine.
    pub(crate) fn internal(message: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The same, with the key or place that is wrong.
    pub(crate) fn at(self, param: impl ToString) -> Self {
        Self {
            param: Some(param.to_string()),
            ..self
        }
    }

    /// The error's part of a reply.
    pub(crate) fn details(&self) -> Details {
        Details {
            message: self.message.clone(),
            r#type: kind(self.status),
            code: self.status.as_u16(),
            param: self.param.clone(),
        }
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "not_found_error",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable_entity_error",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable_error",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "timeout_error",
        status if status.is_server_error() => "engine_error",
        _ => "invalid_request_error",
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            object: "error",
            message: self.message.clone(),
            error: self.details(),
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The status of each error of the runtime.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::QueueFull { .. } => Self::unavailable(error, 1),
            Error::Closed => Self::unavailable("the service is shutting down", 5),
            Error::Image { .. }
            | Error::Prompt(_)
            | Error::NoResponses
            | Error::NoVision { .. }
            | Error::NotFinite { .. } => Self::unprocessable(error),
            _ => Self::internal(error),
        }
    }
}

/// A row that cannot be read.
impl From<seeward_models::Error> for Refusal {
    fn from(error: seeward_models::Error) -> Self {
        Self::unprocessable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_runtime_has_its_status() {
        for (error, status, kind) in [
            (Error::NoResponses, 422, "unprocessable_entity_error"),
            (Error::Closed, 503, "unavailable_error"),
            (Error::Panicked, 500, "engine_error"),
            (Error::Library("x".to_owned()), 500, "engine_error"),
        ] {
            let refusal = Refusal::from(error);
            let details = refusal.details();
            assert_eq!((details.code, details.r#type), (status, kind));
            let retries = refusal.into_response().headers().contains_key(RETRY_AFTER);
            assert_eq!(retries, status == 503);
        }
    }
}
