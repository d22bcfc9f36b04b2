//! Tokens: who the client is to the servers.

use kvorum_proto::api::etcdserverpb::AuthenticateRequest;
use kvorum_proto::api::etcdserverpb::auth_client::AuthClient;
use kvorum_proto::errors::EtcdError;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::client::Client;
use crate::config::Credentials;
use crate::error::Error;
use crate::retry::Class;

type Token = MetadataValue<Ascii>;

/// The token shared by the clones of a client, and what to get another with.
pub(crate) struct Session {
    credentials: Option<Credentials>,
    token: std::sync::Mutex<Option<Token>>,
    /// Held while a token is being got, so that calls that fail together get one together. True once one was asked for.
    signing_in: Mutex<bool>,
}

impl Session {
    pub(crate) fn new(credentials: Option<Credentials>) -> Session {
        Session { credentials, token: std::sync::Mutex::default(), signing_in: Mutex::default() }
    }

    pub(crate) fn can_sign_in(&self) -> bool {
        self.credentials.is_some()
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.lock().clone()
    }

    /// Gets the first token, if there are credentials and none was asked for yet.
    pub(crate) async fn start(&self, client: &Client) -> Result<(), Error> {
        let Some(credentials) = &self.credentials else { return Ok(()) };
        let mut asked = self.signing_in.lock().await;
        if !*asked {
            let deadline = Instant::now() + client.config().request_timeout;
            self.sign_in(client, credentials, deadline).await?;
            *asked = true;
        }
        Ok(())
    }

    /// Gets a token in place of `refused`, unless another call has done so meanwhile.
    pub(crate) async fn replace(
        &self,
        client: &Client,
        refused: Option<Token>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let Some(credentials) = &self.credentials else { return Ok(()) };
        let _asked = self.signing_in.lock().await;
        if self.token() != refused {
            return Ok(());
        }
        // Asking for a token with a token that is refused would be refused.
        *self.lock() = None;
        self.sign_in(client, credentials, deadline).await
    }

    async fn sign_in(
        &self,
        client: &Client,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<(), Error> {
        let message = AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        let mut plain = client.clone();
        plain.session = std::sync::Arc::new(Session::new(None));
        let answer =
            plain.attempt(Class::Once, &message, deadline, &|channel, request| async move {
                AuthClient::new(channel).authenticate(request).await
            });
        match Box::pin(answer).await {
            Ok(response) => {
                let token = Token::try_from(response.token)
                    .map_err(|_| Status::internal("the server's token is not ASCII"))?;
                *self.lock() = Some(token);
                Ok(())
            }
            // Servers that ask for no user give no tokens.
            Err(error) if error.etcd() == Some(EtcdError::AuthNotEnabled) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Client {
    /// The token in use, if there is one: for requests that are made past this client.
    pub fn token(&self) -> Option<String> {
        self.session.token().and_then(|token| token.to_str().ok().map(String::from))
    }

    /// Gets a token now, where the first call would otherwise. Does nothing without credentials, or when the servers do
    /// not ask who one is.
    pub async fn sign_in(&self) -> Result<(), Error> {
        let limit = self.config().dial_timeout;
        let signed_in = tokio::time::timeout(limit, self.session.start(self)).await;
        signed_in.unwrap_or(Err(Error::DeadlineExceeded))
    }
}
