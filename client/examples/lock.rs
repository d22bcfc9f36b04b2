//! Holds a lock for a while and writes under it, by a fencing token: `cargo run -p kvorum-client --example lock`, with a
//! kvorum at 127.0.0.1:2379. Start it twice, and stop the first (SIGSTOP) while it works.

use std::time::Duration;

use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use kvorum_client::concurrency::{Lock, Mutex, Session, SessionOptions};
use kvorum_client::{Client, Config, Error};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::new(Config::new(["127.0.0.1:2379", "127.0.0.1:22379"]))?;
    let session = Session::open(&client, SessionOptions::new().ttl(5)).await?;
    println!("waiting");
    let lock = Mutex::new(&session, "report").lock().await?;
    println!("locked, with the token {}", lock.fencing_token());
    for page in 1..=10 {
        sleep(Duration::from_secs(1)).await;
        // To ask the session first saves a request. It is the comparison at the servers that makes it safe.
        if !session.is_alive() || !write(&client, &lock, page).await? {
            println!("page {page}: the lock is lost, and nothing was written");
            return Ok(());
        }
        println!("page {page} is written");
    }
    lock.unlock().await?;
    session.close().await
}

/// Writes a page if the lock is still held when the servers get to it.
async fn write(client: &Client, lock: &Lock, page: u32) -> Result<bool, Error> {
    let value = format!("page {page}, by {}", lock.fencing_token()).into();
    let put = PutRequest { key: "report-page".into(), value, ..Default::default() };
    let guarded = TxnRequest {
        compare: vec![lock.is_owner()],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    Ok(client.txn(guarded).await?.succeeded)
}
