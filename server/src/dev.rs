//! `kvorum dev`: a throw-away cluster in one process.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use futures_util::future::{select_all, try_join_all};
use tempfile::TempDir;

use crate::command::{Signals, failed};
use crate::config::{InitialCluster, ServerUrl};
use crate::failure::{FatalError, StartError};
use crate::server::Server;

/// Where clients of the first members are served if nobody else is there: etcd's own port, and those of the cluster in
/// its manual.
const CLIENT_PORTS: [u16; 3] = [2379, 22379, 32379];

/// Starts `member_count` members on the loopback interface and runs them until a signal or a failure.
pub(crate) async fn run(member_count: usize) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot listen for signals: {error}")),
    };
    let dir = match TempDir::with_prefix("kvorum-dev-") {
        Ok(dir) => dir,
        Err(error) => return failed(&format!("cannot make a directory for the data: {error}")),
    };
    let servers = tokio::select! {
        started = start(&dir, member_count) => match started {
            Ok(servers) => servers,
            Err(error) => return failed(&error.to_string()),
        },
        _ = signals.next() => return ExitCode::SUCCESS,
    };
    print!("{}", greeting(&servers, &dir));
    let failure = tokio::select! {
        (ended, ..) = select_all(servers.iter().map(|server| Box::pin(server.wait()))) => ended.err(),
        _ = signals.next() => None,
    };
    // All end together, so there is nobody to hand the leadership to.
    drop(servers);
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => failed(&failure.to_string()),
    }
}

async fn start(dir: &TempDir, member_count: usize) -> Result<Vec<Server>, StartError> {
    let mut listeners = Vec::new();
    let mut members = Vec::new();
    for number in 0..member_count {
        let (client, peer) = listen(number).map_err(|source| StartError::Listen {
            url: "http://127.0.0.1:0".to_owned(),
            source,
        })?;
        let port = peer.local_addr().map_or(0, |address| address.port());
        members.push((name(number), vec![ServerUrl::http("127.0.0.1", port)]));
        listeners.push((client, peer));
    }
    let cluster = InitialCluster::new(members);
    let starts = listeners.into_iter().enumerate().map(|(number, (client, peer))| {
        Server::builder()
            .name(name(number))
            .data_dir(dir.path().join(name(number)))
            .client_listeners(vec![client])
            .peer_listeners(vec![peer])
            .initial_cluster(cluster.clone())
            .initial_cluster_token(dir.path().display().to_string())
            .start()
    });
    let servers = try_join_all(starts).await?;
    let ready: Result<Vec<()>, FatalError> = try_join_all(servers.iter().map(Server::ready)).await;
    // A member that ended before it was ready is reported by the one who waits for it next.
    drop(ready);
    Ok(servers)
}

fn name(number: usize) -> String {
    format!("dev-{}", number + 1)
}

fn listen(number: usize) -> io::Result<(TcpListener, TcpListener)> {
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let client = match CLIENT_PORTS.get(number) {
        Some(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).or_else(|_| any())?,
        None => any()?,
    };
    Ok((client, any()?))
}

fn greeting(servers: &[Server], dir: &TempDir) -> String {
    let endpoints: Vec<String> =
        servers.iter().flat_map(|server| server.endpoints().iter().cloned()).collect();
    let members = if servers.len() == 1 { "member" } else { "members" };
    let mut text = format!(
        "kvorum dev: {} {members}, data in {} until the end\n\n",
        servers.len(),
        dir.path().display()
    );
    for endpoint in &endpoints {
        text.push_str(&format!("  {endpoint}\n"));
    }
    let endpoints = endpoints.join(",");
    text.push_str(&format!(
        "\nTry, in another terminal:\n\n  kvorumctl --endpoints {endpoints} put greeting hello\n  \
         kvorumctl --endpoints {endpoints} get greeting\n\nCtrl-C ends it.\n"
    ));
    text
}
