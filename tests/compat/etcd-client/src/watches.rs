//! What a stream of watches is told, and in which order.
//!
//! etcd 3.5.1 lacks corrections that came later, which kvorum has: see [`Server::is_corrected`].

use std::time::Duration;

use etcd_client::{
    Client, DeleteOptions, EventType, Txn, TxnOp, WatchFilterType, WatchOptions, WatchResponse,
    WatchStream,
};
use tokio::time::timeout;

use crate::Result;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const RESPONSE_SECONDS_MAX: u64 = 15;

pub async fn all(client: &mut Client) -> Result<()> {
    let server = Server::of(client).await?;
    if !server.is_corrected {
        println!("some of watch left out: the server is of etcd 3.5");
    }
    from_now_on(client).await?;
    from_the_past(client).await?;
    filters(client).await?;
    names(client).await?;
    empty_ranges(client).await?;
    progress(client, &server).await?;
    fragments(client).await?;
    compacted(client, &server).await?;
    Ok(())
}

struct Server {
    /// Progress is told when everything before it was (3.5.8), a start below zero is refused (3.7).
    is_corrected: bool,
}

impl Server {
    async fn of(client: &mut Client) -> Result<Server> {
        let is_corrected = !client.status().await?.version().starts_with("3.5.");
        Ok(Server { is_corrected })
    }
}

async fn from_now_on(client: &mut Client) -> Result<()> {
    put(client, "rs/w/a", "before").await?;
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("rs/w/", Some(options)).await?;
    let created = next(&mut stream).await?;
    assert_eq!(bare(&created), (0, true, false, 0, ""));
    let since = revision(&created);

    put(client, "rs/w/a", "1").await?;
    put(client, "rs/v", "not watched").await?;
    let both = [TxnOp::put("rs/w/b", "2", None), TxnOp::delete("rs/w/a", None)];
    let both = client.txn(Txn::new().and_then(both)).await?;
    let last = both.header().expect("a transaction has a header").revision();
    let wanted = [
        format!("put rs/w/a=1 @{} was before", since + 1),
        format!("put rs/w/b=2 @{last}"),
        format!("delete rs/w/a @{last} was 1"),
    ];
    assert_eq!(told(&mut stream, 3).await?, wanted);

    stream.cancel(0).await?;
    let canceled = next(&mut stream).await?;
    assert_eq!(bare(&canceled), (0, false, true, 0, ""));
    assert_eq!(revision(&canceled), last);
    // What is not there is not mentioned; what is asked next is answered next.
    stream.cancel(0).await?;
    stream.watch("rs/w/a", None).await?;
    assert_eq!(bare(&next(&mut stream).await?), (1, true, false, 0, ""));
    Ok(())
}

async fn from_the_past(client: &mut Client) -> Result<()> {
    let first = put(client, "rs/w/p", "1").await?;
    put(client, "rs/w/p", "2").await?;
    client.delete("rs/w/p", None).await?;
    put(client, "rs/w/p", "3").await?;
    let from = |revision| WatchOptions::new().with_start_revision(revision);
    let mut stream = client.watch("rs/w/p", Some(from(first))).await?;
    assert_eq!(revision(&next(&mut stream).await?), first + 3);
    let all = [
        format!("put rs/w/p=1 @{first}"),
        format!("put rs/w/p=2 @{}", first + 1),
        format!("delete rs/w/p @{}", first + 2),
        format!("put rs/w/p=3 @{}", first + 3),
    ];
    assert_eq!(told(&mut stream, 4).await?, all);

    let mut stream =
        client.watch("rs/w/p", Some(from(first + 1).with_prev_key().with_from_key())).await?;
    next(&mut stream).await?;
    let wanted = [format!("{} was 1", all[1]), format!("{} was 2", all[2]), all[3].clone()];
    assert_eq!(told(&mut stream, 3).await?, wanted);

    // Nothing is told before a revision that is still to come.
    let mut stream = client.watch("rs/w/p", Some(from(first + 5))).await?;
    assert_eq!(revision(&next(&mut stream).await?), first + 3);
    put(client, "rs/w/p", "4").await?;
    put(client, "rs/w/p", "5").await?;
    assert_eq!(told(&mut stream, 1).await?, [format!("put rs/w/p=5 @{}", first + 5)]);
    Ok(())
}

async fn filters(client: &mut Client) -> Result<()> {
    let first = put(client, "rs/w/f", "1").await?;
    client.delete("rs/w/f", None).await?;
    put(client, "rs/w/f", "2").await?;
    client.delete("rs/w/f", None).await?;
    let without = |filters: &[WatchFilterType]| {
        Some(WatchOptions::new().with_start_revision(first).with_filters(filters))
    };
    let mut puts = client.watch("rs/w/f", without(&[WatchFilterType::NoDelete])).await?;
    let mut deletes = client.watch("rs/w/f", without(&[WatchFilterType::NoPut])).await?;
    next(&mut puts).await?;
    next(&mut deletes).await?;
    let wanted = [format!("put rs/w/f=1 @{first}"), format!("put rs/w/f=2 @{}", first + 2)];
    assert_eq!(told(&mut puts, 2).await?, wanted);
    let wanted = [format!("delete rs/w/f @{}", first + 1), format!("delete rs/w/f @{}", first + 3)];
    assert_eq!(told(&mut deletes, 2).await?, wanted);
    Ok(())
}

/// Ids are counted up from 0, or chosen, refused while they are taken, and free after a cancel.
async fn names(client: &mut Client) -> Result<()> {
    let named = |watch_id| Some(WatchOptions::new().with_watch_id(watch_id));
    let mut stream = client.watch("rs/w/i", named(1)).await?;
    for watch_id in [0, 0, 7, -5, 0] {
        stream.watch("rs/w/i", named(watch_id)).await?;
    }
    for given in [1, 0, 2, 7, -5, 3] {
        assert_eq!(bare(&next(&mut stream).await?), (given, true, false, 0, ""));
    }
    stream.watch("rs/w/i", named(7)).await?;
    let taken = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(bare(&next(&mut stream).await?), (-1, true, true, 0, taken));
    stream.cancel(7).await?;
    stream.cancel(99).await?;
    stream.watch("rs/w/i", named(7)).await?;
    assert_eq!(bare(&next(&mut stream).await?), (7, false, true, 0, ""));
    assert_eq!(bare(&next(&mut stream).await?), (7, true, false, 0, ""));
    // One that was counted up to does not come again.
    stream.cancel(3).await?;
    stream.watch("rs/w/i", None).await?;
    assert_eq!(bare(&next(&mut stream).await?), (3, false, true, 0, ""));
    assert_eq!(bare(&next(&mut stream).await?), (4, true, false, 0, ""));
    Ok(())
}

async fn empty_ranges(client: &mut Client) -> Result<()> {
    let until = |end: &str| Some(WatchOptions::new().with_range(end));
    let mut stream = client.watch("rs/w/b", until("rs/w/a")).await?;
    stream.watch("rs/w/b", until("rs/w/b")).await?;
    stream.watch("rs/w/b", until("rs/w/c")).await?;
    for _ in 0..2 {
        let empty = "mvcc: watcher range is empty";
        assert_eq!(bare(&next(&mut stream).await?), (-1, true, true, 0, empty));
    }
    assert_eq!(bare(&next(&mut stream).await?), (0, true, false, 0, ""));
    Ok(())
}

async fn progress(client: &mut Client, server: &Server) -> Result<()> {
    let mut stream = client.watch("rs/w/g", None).await?;
    next(&mut stream).await?;
    let latest = put(client, "rs/v", "not watched").await?;
    stream.request_progress().await?;
    let progress = next(&mut stream).await?;
    assert_eq!((bare(&progress), revision(&progress)), ((-1, false, false, 0, ""), latest));
    assert!(progress.events().is_empty());
    if !server.is_corrected {
        return Ok(());
    }
    // It says that everything up to it has been told, however much there is to tell (etcd's issue 15220).
    let first = put(client, "rs/w/g", "0").await?;
    for number in 1..100 {
        put(client, "rs/w/g", &number.to_string()).await?;
    }
    let past = Some(WatchOptions::new().with_start_revision(first));
    stream.watch("rs/w/g", past).await?;
    stream.request_progress().await?;
    let mut told_up_to = [0; 2];
    let progress = loop {
        let response = next(&mut stream).await?;
        match response.events().last() {
            Some(event) => {
                let kv = event.kv().expect("an event has a key");
                told_up_to[response.watch_id() as usize] = kv.mod_revision();
            }
            None if response.created() => assert_eq!(response.watch_id(), 1),
            None => break response,
        }
    };
    assert_eq!((progress.watch_id(), revision(&progress)), (-1, first + 99));
    assert_eq!(told_up_to, [first + 99; 2]);
    // A stream on which nothing is watched has been told nothing, and says so neither (etcd's issue 17566).
    let mut stream = client.watch("rs/w/g", None).await?;
    next(&mut stream).await?;
    stream.cancel(0).await?;
    assert!(next(&mut stream).await?.canceled());
    stream.request_progress().await?;
    stream.watch("rs/w/g", None).await?;
    assert_eq!(bare(&next(&mut stream).await?), (1, true, false, 0, ""));
    Ok(())
}

/// Large revisions come in parts where that is allowed; all but the last say that there is more.
async fn fragments(client: &mut Client) -> Result<()> {
    for number in 0..3 {
        client.put(format!("rs/w/l/{number}"), vec![b'x'; 1_000_000], None).await?;
    }
    let options = WatchOptions::new().with_prefix().with_prev_key().with_fragment();
    let mut stream = client.watch("rs/w/l/", Some(options)).await?;
    next(&mut stream).await?;
    let gone = client.delete("rs/w/l/", Some(DeleteOptions::new().with_prefix())).await?;
    let gone = gone.header().expect("a delete has a header").revision();
    let mut events = 0;
    let mut parts = 0;
    while events < 3 {
        let part = next(&mut stream).await?;
        assert_eq!((part.watch_id(), revision(&part)), (0, gone));
        events += part.events().len();
        parts += 1;
    }
    assert!(events == 3 && parts > 1, "{events} events in {parts} parts");
    Ok(())
}

async fn compacted(client: &mut Client, server: &Server) -> Result<()> {
    put(client, "rs/w/c", "1").await?;
    client.delete("rs/w/c", None).await?;
    let at = put(client, "rs/w/c", "2").await?;
    client.compact(at, None).await?;
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut stream = client.watch("rs/w/c", from(at - 1)).await?;
    let created = next(&mut stream).await?;
    assert_eq!((bare(&created), revision(&created)), ((0, true, false, 0, ""), at));
    let canceled = next(&mut stream).await?;
    assert_eq!((bare(&canceled), revision(&canceled)), ((0, false, true, at, ""), 0));
    // The revision that was compacted to can still be told.
    stream.watch("rs/w/c", from(at)).await?;
    assert_eq!(bare(&next(&mut stream).await?), (1, true, false, 0, ""));
    assert_eq!(told(&mut stream, 1).await?, [format!("put rs/w/c=2 @{at}")]);
    if server.is_corrected {
        // Etcd's issue 20707.
        stream.watch("rs/w/c", from(-1)).await?;
        let refused = next(&mut stream).await?;
        assert_eq!((bare(&refused), revision(&refused)), ((-1, true, true, 0, COMPACTED), at));
    }
    Ok(())
}

async fn put(client: &mut Client, key: &str, value: &str) -> Result<i64> {
    let put = client.put(key, value, None).await?;
    Ok(put.header().expect("a put has a header").revision())
}

async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    let within = Duration::from_secs(RESPONSE_SECONDS_MAX);
    let message = timeout(within, stream.message()).await.expect("a response is due");
    Ok(message?.expect("the stream goes on"))
}

fn revision(response: &WatchResponse) -> i64 {
    response.header().expect("a response has a header").revision()
}

/// A response but for its header and its events.
fn bare(response: &WatchResponse) -> (i64, bool, bool, i64, &str) {
    let (created, canceled) = (response.created(), response.canceled());
    (response.watch_id(), created, canceled, response.compact_revision(), response.cancel_reason())
}

/// The next events, one text for each: `put a=1 @2`, with ` was 0` where that is told, or `delete a @3`.
async fn told(stream: &mut WatchStream, count: usize) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while all.len() < count {
        let response = next(stream).await?;
        assert!(!response.canceled() && !response.events().is_empty(), "{response:?}");
        for event in response.events() {
            let kv = event.kv().expect("an event has a key");
            let (key, at) = (kv.key_str()?, kv.mod_revision());
            let was = match event.prev_kv() {
                Some(prev) => format!(" was {}", prev.value_str()?),
                None => String::new(),
            };
            all.push(match event.event_type() {
                EventType::Put => format!("put {key}={} @{at}{was}", kv.value_str()?),
                EventType::Delete => format!("delete {key} @{at}{was}"),
            });
        }
    }
    Ok(all)
}
