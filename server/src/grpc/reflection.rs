//! Server reflection: what a client that has no `.proto` files asks for first.

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

/// Describes etcd's services and gRPC's own, in both versions of the protocol.
#[derive(Clone)]
pub(super) struct Reflection(Routes);

impl Reflection {
    pub(super) fn new() -> Reflection {
        let describe = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let reflection = describe().build_v1().expect(BUILT_IN);
        let reflection_alpha = describe().build_v1alpha().expect(BUILT_IN);
        let routes = Routes::new(reflection).add_service(reflection_alpha);
        Reflection(routes.prepare())
    }

    /// Whether the path is one of reflection's.
    pub(super) fn takes(path: &str) -> bool {
        path.starts_with("/grpc.reflection.")
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
        Reflection::new();
    }
}
