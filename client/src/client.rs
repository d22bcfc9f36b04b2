//! The client and the loop every call goes through.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::auth::Session;
use crate::config::Config;
use crate::connections::Connections;
use crate::error::Error;
use crate::lease;
use crate::retry::{Attempts, Class, Decision};
use crate::watch::Registry;

/// A client of one cluster. Clones are cheap and share connections and token; so one is enough for a program, and every
/// task may have its own clone.
///
/// Nothing is connected until the first call.
#[derive(Clone)]
pub struct Client {
    pub(crate) connections: Connections,
    pub(crate) session: Arc<Session>,
    config: Arc<Config>,
    /// Of one call; differs from the configuration's after `with_timeout`.
    timeout: Duration,
    pub(crate) require_leader: bool,
    pub(crate) watches: Arc<Registry>,
    pub(crate) leases: Arc<lease::Registry>,
}

impl Client {
    /// A client of the cluster at these endpoints. Fails only if they cannot be endpoints at all.
    pub fn new(config: Config) -> Result<Client, Error> {
        let connections = Connections::new(config.transport_endpoints()?);
        Ok(Client {
            connections,
            session: Arc::new(Session::new(config.credentials.clone())),
            timeout: config.request_timeout,
            config: Arc::new(config),
            require_leader: false,
            watches: Arc::default(),
            leases: Arc::default(),
        })
    }

    /// The same client with another deadline for each call.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout, ..self.clone() }
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same client, with calls that a member refuses while it knows of no leader, where it would otherwise serve them
    /// (serializable reads, watches) or wait.
    pub fn requiring_leader(&self) -> Client {
        Client { require_leader: true, ..self.clone() }
    }

    /// A client of only this endpoint, with the same settings: for questions to one member. It shares the token, if there
    /// is one already.
    pub fn at(&self, endpoint: &str) -> Result<Client, Error> {
        let config = Config { endpoints: vec![endpoint.into()], ..Config::clone(&self.config) };
        let mut only = Client::new(config)?;
        if self.session.token().is_some() {
            only.session = self.session.clone();
        }
        only.timeout = self.timeout;
        only.require_leader = self.require_leader;
        Ok(only)
    }

    /// What the client was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends one request until it is answered, refused, or out of time. `send` makes the call on a connection.
    pub(crate) async fn call<Req, Reply, F, Fut>(
        &self,
        class: Class,
        message: Req,
        send: F,
    ) -> Result<Reply, Error>
    where
        Req: Message + Clone,
        F: Fn(Channel, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Reply>, Status>>,
    {
        self.check_size(&message)?;
        let deadline = Instant::now() + self.timeout;
        let attempts = async {
            self.session.start(self).await?;
            self.attempt(class, &message, deadline, &send).await
        };
        timeout_at(deadline, attempts).await.unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// The loop of [`Client::call`] without its deadline and without getting a first token.
    pub(crate) async fn attempt<Req, Reply, F, Fut>(
        &self,
        class: Class,
        message: &Req,
        deadline: Instant,
        send: &F,
    ) -> Result<Reply, Error>
    where
        Req: Clone,
        F: Fn(Channel, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Reply>, Status>>,
    {
        let endpoint_count = self.connections.endpoint_count();
        let mut attempts = Attempts::new(class, endpoint_count, self.session.can_sign_in());
        loop {
            let connection = self.connections.next().await;
            let token = self.session.token();
            let request = self.request(message.clone(), token.clone(), deadline);
            let status = match send(connection.channel.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            match attempts.decide(&status, rand::random()) {
                Decision::GiveUp => return Err(status.into()),
                Decision::AnotherEndpoint => self.connections.lost(&connection).await,
                Decision::Again(pause) => sleep(pause).await,
                Decision::NewToken => self.session.replace(self, token, deadline).await?,
            }
        }
    }

    /// A request with the metadata of this client.
    fn request<Req>(
        &self,
        message: Req,
        token: Option<MetadataValue<Ascii>>,
        deadline: Instant,
    ) -> Request<Req> {
        let mut request = self.request_without_end(message, token);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        request
    }

    /// The same for a call that has no deadline.
    pub(crate) fn request_without_end<Req>(
        &self,
        message: Req,
        token: Option<MetadataValue<Ascii>>,
    ) -> Request<Req> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("token", token);
        }
        if self.require_leader {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        request
    }

    fn check_size(&self, message: &impl Message) -> Result<(), Error> {
        let (bytes, max) = (message.encoded_len(), self.config.request_bytes_max);
        if bytes <= max {
            return Ok(());
        }
        let text = format!("trying to send message larger than max ({bytes} vs. {max})");
        Err(Error::Status(Status::resource_exhausted(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpSocket;

    use crate::{Client, Config, Error};

    /// An endpoint nobody listens on, and nobody else can as long as the socket is kept.
    fn closed_endpoint() -> (TcpSocket, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address.to_string())
    }

    #[tokio::test]
    async fn a_call_without_a_server_waits_until_its_deadline() {
        let (closed, also_closed) = (closed_endpoint(), closed_endpoint());
        let client = Client::new(Config::new([closed.1, also_closed.1])).unwrap();
        let client = client.with_timeout(Duration::from_millis(80));
        let put = tokio::spawn(async move { client.put("key", "value").await });
        assert!(matches!(put.await.unwrap(), Err(Error::DeadlineExceeded)));
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_not_sent() {
        let mut config = Config::new(["127.0.0.1:1"]);
        config.request_bytes_max = 10;
        let client = Client::new(config).unwrap();
        let error = client.put("key", "0123456789").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (17 vs. 10)"
        );
    }
}
