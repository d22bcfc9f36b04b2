//! Keeps a copy of the keys that begin with `fruit/`, and prints it whenever it changes: `cargo run -p kvorum-client
//! --example watch`, with a kvorum at 127.0.0.1:2379.

use std::collections::BTreeMap;

use kvorum_client::api::mvccpb::event::EventType;
use kvorum_client::{Client, Config, Error, UpdateKind, WatchOptions};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::new(Config::new(["127.0.0.1:2379", "127.0.0.1:22379"]))?;
    let mut fruit = BTreeMap::new();
    let mut watch = client.watch("fruit/", WatchOptions::new().prefix().with_state());
    while let Some(update) = watch.next().await {
        let update = update?;
        // A connection may be lost before the state is whole; then it is told again from its beginning.
        if update.kind == UpdateKind::StateBegins {
            fruit.clear();
        }
        for event in update.events {
            let event_type = event.r#type();
            let kv = event.kv.unwrap_or_default();
            match event_type {
                EventType::Put => fruit.insert(kv.key, kv.value),
                EventType::Delete => fruit.remove(&kv.key),
            };
        }
        if matches!(update.kind, UpdateKind::StateComplete | UpdateKind::Changes) {
            println!("{}: {fruit:?}", update.header.revision);
        }
    }
    Ok(())
}
