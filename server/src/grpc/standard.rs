//! The services that are gRPC's own: health and server reflection.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use kvorum_proto::FILE_DESCRIPTOR_SET;
use tonic::service::Routes;
use tonic_reflection::server::Builder;
use tower::ServiceExt;

use super::reply::{self, ReplyBody};

const BUILT_IN: &str = "the descriptors are part of the program";

/// Health, which is "serving" for as long as the port is open, and reflection of etcd's services.
#[derive(Clone)]
pub(super) struct StandardServices(Routes);

impl StandardServices {
    pub(super) fn new() -> StandardServices {
        let describe = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = describe().build_v1().expect(BUILT_IN);
        let reflection_alpha = describe().build_v1alpha().expect(BUILT_IN);
        let routes = Routes::new(health).add_service(reflection).add_service(reflection_alpha);
        StandardServices(routes.prepare())
    }

    /// Whether the path is one of theirs.
    pub(super) fn takes(path: &str) -> bool {
        path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
    }

    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(tonic::body::Body::new);
        let answered: Result<_, Infallible> = self.0.clone().oneshot(request).await;
        match answered {
            Ok(response) => reply::from_tonic(response),
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_that_reflection_shows_can_be_read() {
        StandardServices::new();
    }
}
