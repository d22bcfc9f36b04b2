//! gRPC calls with as little around them as can be: frames straight to h2, answers counted but not decoded.

use std::future::poll_fn;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use kvorum_client::Error;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::work::{Call, Method};

/// What a server may send on a connection before we have read it: enough that the network never waits for us.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// The same for one answer.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Bytes in front of a gRPC message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// One connection, made again when it breaks: to the next endpoint, so that a lost member does not stop its clients.
pub struct Lane {
    targets: Vec<Target>,
    token: Option<HeaderValue>,
    state: Mutex<State>,
}

struct State {
    /// The connection in use and its target.
    sender: Option<(SendRequest<Bytes>, usize)>,
    /// Which connection in a row it is.
    generation: u64,
    /// The target to connect to next.
    next: usize,
}

/// An endpoint, taken apart.
struct Target {
    authority: String,
    /// The URI of each method, in the order of `METHODS`.
    uris: Vec<Uri>,
}

const METHODS: [Method; 7] = [
    Method::Put,
    Method::Txn,
    Method::Range,
    Method::RangeStream,
    Method::Watch,
    Method::Grant,
    Method::KeepAlive,
];

/// A client's share of a lane.
pub struct Sender {
    sender: SendRequest<Bytes>,
    generation: u64,
    target: usize,
}

impl Lane {
    /// A lane that begins with the endpoint of this number, counted round.
    pub fn new(endpoints: &[String], token: Option<String>, first: usize) -> Result<Lane, String> {
        let targets = endpoints
            .iter()
            .map(|endpoint| Target::parse(endpoint))
            .collect::<Result<Vec<_>, _>>()?;
        let token =
            token.map(|token| HeaderValue::try_from(token).map_err(|error| error.to_string()));
        let next = first % targets.len().max(1);
        let state = State { sender: None, generation: 0, next };
        Ok(Lane { targets, token: token.transpose()?, state: Mutex::new(state) })
    }

    /// The lane's connection; one is made if there is none.
    pub async fn sender(&self) -> Result<Sender, String> {
        let mut state = self.state.lock().await;
        if let Some((sender, target)) = &state.sender {
            let (sender, target) = (sender.clone(), *target);
            return Ok(Sender { sender, generation: state.generation, target });
        }
        let target = state.next;
        state.next = (state.next + 1) % self.targets.len();
        state.generation += 1;
        let sender = self.targets[target].connect().await?;
        state.sender = Some((sender.clone(), target));
        Ok(Sender { sender, generation: state.generation, target })
    }

    /// Gives up the connection that `sender` belongs to.
    pub async fn broken(&self, sender: &Sender) {
        let mut state = self.state.lock().await;
        if state.generation == sender.generation {
            state.sender = None;
        }
    }

    /// Sends a request and reads the whole answer; returns how many bytes it had.
    pub async fn call(&self, sender: &mut Sender, call: Call) -> Result<u64, CallError> {
        poll_fn(|cx| sender.sender.poll_ready(cx)).await?;
        let request = self.request(sender.target, call.method);
        let (answer, mut body) = sender.sender.send_request(request, false)?;
        body.send_data(call.frame, true)?;
        let (head, mut body) = answer.await?.into_parts();
        let bytes = read_all(&mut body).await?;
        let trailers = body.trailers().await?;
        let status = trailers
            .as_ref()
            .and_then(Status::from_header_map)
            .or_else(|| Status::from_header_map(&head.headers));
        match status {
            Some(status) if status.code() == Code::Ok => Ok(bytes),
            Some(status) => Err(CallError::Refused(Error::from(status).to_string())),
            None => {
                Err(CallError::Refused(format!("HTTP status {} and no gRPC status", head.status)))
            }
        }
    }

    /// Begins a call of many messages in both directions.
    pub async fn open(
        &self,
        sender: &mut Sender,
        method: Method,
    ) -> Result<(SendStream<Bytes>, ResponseFuture), CallError> {
        poll_fn(|cx| sender.sender.poll_ready(cx)).await?;
        let request = self.request(sender.target, method);
        let (answer, body) = sender.sender.send_request(request, false)?;
        Ok((body, answer))
    }

    fn request(&self, target: usize, method: Method) -> Request<()> {
        let index = METHODS.iter().position(|known| *known == method).expect("all are listed");
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.targets[target].uris[index].clone();
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(token) = &self.token {
            headers.insert("token", token.clone());
        }
        request
    }
}

/// Takes a whole message out of what was received on a stream, if there is one.
pub fn next_message(received: &mut BytesMut) -> Option<Bytes> {
    let mut head = received.get(..HEAD_BYTES)?;
    head.advance(1);
    let bytes = usize::try_from(head.get_u32()).ok()?;
    if received.len() - HEAD_BYTES < bytes {
        return None;
    }
    received.advance(HEAD_BYTES);
    Some(received.split_to(bytes).freeze())
}

/// Reads an answer to its end and drops it.
async fn read_all(body: &mut RecvStream) -> Result<u64, h2::Error> {
    let mut bytes = 0;
    while let Some(chunk) = body.data().await {
        let chunk_bytes = chunk?.len();
        body.flow_control().release_capacity(chunk_bytes)?;
        bytes += chunk_bytes as u64;
    }
    Ok(bytes)
}

impl Target {
    fn parse(endpoint: &str) -> Result<Target, String> {
        let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
        if authority.contains("://") || authority.is_empty() {
            return Err(format!("bench cannot use the endpoint {endpoint:?}"));
        }
        let uri = |method: &Method| {
            format!("http://{authority}{}", method.path())
                .parse()
                .map_err(|error| format!("bad endpoint {endpoint:?}: {error}"))
        };
        let uris = METHODS.iter().map(uri).collect::<Result<Vec<Uri>, String>>()?;
        Ok(Target { authority: authority.into(), uris })
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("cannot connect to {}: {error}", self.authority)
        };
        let socket = TcpStream::connect(&self.authority).await.map_err(|error| failed(&error))?;
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(|error| failed(&error))?;
        // Ends with an error when the connection breaks, of which the calls on it tell too.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The server answered with an error.
    Refused(String),
    /// The connection broke.
    Broken(h2::Error),
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> CallError {
        CallError::Broken(error)
    }
}

impl CallError {
    /// Whether the connection is of no more use.
    pub fn is_broken(&self) -> bool {
        matches!(self, CallError::Broken(_))
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Refused(text) => f.write_str(text),
            CallError::Broken(error) => write!(f, "connection: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::next_message;

    #[test]
    fn messages_are_cut_out_of_whatever_arrives() {
        let bytes = b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c";
        let mut received = BytesMut::new();
        let mut messages = Vec::new();
        for byte in bytes {
            received.extend_from_slice(&[*byte]);
            messages.extend(next_message(&mut received));
        }
        assert_eq!(messages, ["ab", "", "c"]);
        assert!(received.is_empty());
    }
}
