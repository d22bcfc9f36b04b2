//! A cluster whose members can be broken one by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvorum_client::{Client, Config};
use kvorum_disk::FaultyDisk;
use kvorum_machine::BackendKind;
use kvorum_server::config::{ClusterState, InitialCluster, ServerUrl};
use kvorum_server::{Builder, FatalError, Server, StartError};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::clock::LeapingClock;
use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::eventually;

/// Shorter than etcd's defaults, so that tests do not wait for elections; long enough for a machine under load.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

type Configure = Arc<dyn Fn(Builder) -> Builder + Send + Sync>;

/// Describes a cluster.
#[must_use = "a builder does nothing before `start`"]
pub struct ClusterBuilder {
    member_count: usize,
    are_processes: bool,
    has_faulty_disks: bool,
    has_links: bool,
    has_clocks: bool,
    configure: Configure,
    flags: Vec<String>,
}

impl ClusterBuilder {
    /// Runs each member as the executable `kvorum`, so that it can be killed and paused.
    pub fn as_processes(mut self) -> ClusterBuilder {
        self.are_processes = true;
        self
    }

    /// Gives each member a simulated disk of its own instead of real files; in this process only.
    pub fn on_faulty_disks(mut self) -> ClusterBuilder {
        self.has_faulty_disks = true;
        self
    }

    /// Lets the way from a member's peers to it be cut: see [`Cluster::cut`].
    pub fn with_links(mut self) -> ClusterBuilder {
        self.has_links = true;
        self
    }

    /// Gives each member a clock of its own that the test can move; in this process only.
    pub fn with_clocks(mut self) -> ClusterBuilder {
        self.has_clocks = true;
        self
    }

    /// Changes how members in this process are built, at every start.
    pub fn configure(
        mut self,
        configure: impl Fn(Builder) -> Builder + Send + Sync + 'static,
    ) -> ClusterBuilder {
        self.configure = Arc::new(configure);
        self
    }

    /// Further flags for members that are processes.
    pub fn flags<S: Into<String>>(mut self, flags: impl IntoIterator<Item = S>) -> ClusterBuilder {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Starts all members and waits until each is ready.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        for member in 0..cluster.len() {
            cluster.launch(member).await;
        }
        for member in 0..cluster.len() {
            cluster.wait_ready(member).await;
        }
        cluster
    }

    /// Reserves addresses and directories, starts no member.
    pub fn prepare(self) -> Cluster {
        let dir =
            TempDir::with_prefix("kvorum-test-").expect("the temporary directory is writable");
        let members = (0..self.member_count).map(|number| self.member(number, dir.path()));
        Cluster { members: members.collect(), dir, description: self }
    }

    /// A member with addresses and a directory of its own, not yet started.
    pub(crate) fn member(&self, number: usize, dir: &Path) -> Member {
        let peers = Port::reserve();
        Member {
            name: format!("m{number}"),
            clients: Port::reserve(),
            link: self.has_links.then(|| Link::open(peers.number())),
            peers,
            dir: dir.join(format!("m{number}")),
            disk: self.has_faulty_disks.then(FaultyDisk::new),
            clock: self.has_clocks.then(LeapingClock::start),
            endpoint: None,
            running: Running::No,
            joins: None,
            is_removed: false,
        }
    }
}

/// Members that belong together.
///
/// - Members are numbered from 0, those that are added later too. A dead or removed member keeps its number, addresses and
///   files.
pub struct Cluster {
    // Before the directory, which must outlive them.
    pub(crate) members: Vec<Member>,
    pub(crate) dir: TempDir,
    pub(crate) description: ClusterBuilder,
}

pub(crate) struct Member {
    pub(crate) name: String,
    clients: Port,
    pub(crate) peers: Port,
    /// Where its peers believe it to be, if not where it is.
    link: Option<Link>,
    dir: PathBuf,
    disk: Option<FaultyDisk>,
    clock: Option<LeapingClock>,
    endpoint: Option<Endpoint>,
    pub(crate) running: Running,
    /// The members it was added to, itself among them; none if it was there from the beginning.
    pub(crate) joins: Option<InitialCluster>,
    pub(crate) is_removed: bool,
}

impl Member {
    /// The port on which its peers find it.
    pub(crate) fn peers_find(&self) -> &Port {
        self.link.as_ref().map_or(&self.peers, Link::port)
    }
}

pub(crate) enum Running {
    No,
    InProcess(Box<Server>),
    Process(Process),
}

impl Cluster {
    /// Describes a cluster of so many members.
    pub fn of(member_count: usize) -> ClusterBuilder {
        ClusterBuilder {
            member_count,
            are_processes: false,
            has_faulty_disks: false,
            has_links: false,
            has_clocks: false,
            configure: Arc::new(|builder| builder),
            flags: Vec::new(),
        }
    }

    /// How many members there are, dead and removed ones included.
    #[expect(clippy::len_without_is_empty, reason = "no cluster is empty")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Starts a dead member without waiting until it is ready.
    pub async fn launch(&mut self, member: usize) {
        if let Err(error) = self.try_launch(member).await {
            panic!("member {member} does not start: {error}");
        }
    }

    /// Starts a dead member; why it did not start, if it runs in this process.
    pub async fn try_launch(&mut self, member: usize) -> Result<(), StartError> {
        assert!(!self.is_running(member), "member {member} runs already");
        let running = if self.description.are_processes {
            let log = self.dir.path().join(format!("m{member}.log"));
            Running::Process(Process::start(self.arguments(member), &log))
        } else {
            Running::InProcess(Box::new(self.builder(member).start().await?))
        };
        // A connection that remembers the dead member's would first have to notice.
        let endpoint = Endpoint::new(&self.members[member].clients.url());
        self.members[member].endpoint = Some(endpoint);
        self.members[member].running = running;
        Ok(())
    }

    /// Starts a dead member and waits until it is ready.
    pub async fn restart(&mut self, member: usize) {
        self.launch(member).await;
        self.wait_ready(member).await;
    }

    /// Waits until a running member answers a linearizable read and is known by name.
    pub async fn wait_ready(&self, member: usize) {
        let endpoint = self.endpoint(member);
        eventually(&format!("member {member} to be ready"), async || {
            self.assert_alive(member).await;
            let members = endpoint.member_list().await?;
            let named = members.iter().any(|found| found.name == self.members[member].name);
            if named { Ok(()) } else { Err(Status::new(Code::Unavailable, "not published yet")) }
        })
        .await;
    }

    /// Ends a member at once: SIGKILL for a process, a drop of the handle in this one.
    pub fn kill(&mut self, member: usize) {
        match std::mem::replace(&mut self.members[member].running, Running::No) {
            Running::No => panic!("member {member} is dead already"),
            Running::InProcess(server) => drop(server),
            Running::Process(process) => process.kill(),
        }
    }

    /// Takes the power from a member's simulated disk, then ends the member: what was written and not synced is dropped
    /// or torn, as the seed decides.
    pub fn lose_power(&mut self, member: usize, seed: u64) {
        self.disk(member).power_loss(seed);
        self.kill(member);
    }

    /// Ends a member in order and waits for it.
    pub async fn stop(&mut self, member: usize) {
        self.try_stop(member).await.expect("the member ends well");
    }

    /// Ends a member in order and waits for it; what it failed at meanwhile, if it runs in this process.
    pub async fn try_stop(&mut self, member: usize) -> Result<(), FatalError> {
        match std::mem::replace(&mut self.members[member].running, Running::No) {
            Running::No => panic!("member {member} is dead already"),
            Running::InProcess(server) => server.stop().await,
            Running::Process(mut process) => {
                let (status, _) = process.terminate();
                assert!(status.success(), "{status}\n{}", process.last_log_lines());
                Ok(())
            }
        }
    }

    /// Lets a member hear no more of what its peers send. Clients still reach it, and it reaches its peers: so it is one
    /// to cut only while it follows. The cluster must have been built [`with_links`](ClusterBuilder::with_links).
    pub fn cut(&self, member: usize) {
        self.link(member).set_cut(true);
    }

    /// Lets a member hear its peers again.
    pub fn mend(&self, member: usize) {
        self.link(member).set_cut(false);
    }

    /// Lets a member and the rest hear nothing of one another: also one that leads. Clients still reach it. The cluster
    /// must have been built [`with_links`](ClusterBuilder::with_links).
    pub async fn isolate(&self, member: usize) {
        self.set_isolated(member, true).await;
    }

    /// Undoes [`Cluster::isolate`].
    pub async fn rejoin(&self, member: usize) {
        self.set_isolated(member, false).await;
    }

    async fn set_isolated(&self, member: usize, is_isolated: bool) {
        let status = self.endpoint(member).status().await.expect("the member says who it is");
        let id = status.header.map_or(0, |header| header.member_id);
        self.link(member).set_cut(is_isolated);
        for other in (0..self.len()).filter(|other| *other != member) {
            self.link(other).set_cut_from(id, is_isolated);
        }
    }

    fn link(&self, member: usize) -> &Link {
        self.members[member].link.as_ref().expect("the cluster has links")
    }

    /// Whether a member has been started and not been ended by the test.
    pub fn is_running(&self, member: usize) -> bool {
        !matches!(self.members[member].running, Running::No)
    }

    /// Talks to one member.
    pub fn endpoint(&self, member: usize) -> Endpoint {
        self.members[member].endpoint.clone().expect("the member has been started")
    }

    /// Talks to each running member.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let running = (0..self.len()).filter(|member| self.is_running(*member));
        running.map(|member| self.endpoint(member)).collect()
    }

    /// A client of the whole cluster, with failover and retries.
    pub fn client(&self) -> Client {
        Client::new(Config::new(self.client_urls())).expect("members have endpoints")
    }

    /// Where clients reach the members, dead ones included.
    pub fn client_urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.clients.url()).collect()
    }

    /// Where peers reach a member.
    pub fn peer_url(&self, member: usize) -> String {
        self.members[member].peers_find().url()
    }

    /// A member's data directory.
    pub fn data_dir(&self, member: usize) -> &Path {
        &self.members[member].dir
    }

    /// A member's simulated disk.
    pub fn disk(&self, member: usize) -> &FaultyDisk {
        self.members[member].disk.as_ref().expect("the cluster has simulated disks")
    }

    /// A member's clock, which goes on through its restarts.
    pub fn clock(&self, member: usize) -> &LeapingClock {
        self.members[member].clock.as_ref().expect("the cluster has clocks")
    }

    /// Makes the clocks of all members leap.
    pub fn leap(&self, time: Duration) {
        for member in 0..self.len() {
            self.clock(member).leap(time);
        }
    }

    /// The handle of a member in this process.
    pub fn server(&self, member: usize) -> &Server {
        match &self.members[member].running {
            Running::InProcess(server) => server,
            _ => panic!("member {member} does not run in this process"),
        }
    }

    /// The process of a member.
    pub fn process(&mut self, member: usize) -> &mut Process {
        match &mut self.members[member].running {
            Running::Process(process) => process,
            _ => panic!("member {member} is no process"),
        }
    }

    /// The number of the member that leads, in the eyes of all running members.
    pub async fn leader(&self) -> usize {
        eventually("one leader for all", async || {
            let mut seen = Vec::new();
            for member in (0..self.len()).filter(|member| self.is_running(*member)) {
                self.assert_alive(member).await;
                let status =
                    self.endpoint(member).status().await.map_err(|s| vec![s.to_string()])?;
                let id = status.header.map_or(0, |header| header.member_id);
                seen.push((member, id, status.leader));
            }
            let leader = seen.first().map_or(0, |(_, _, leader)| *leader);
            let number = seen.iter().find(|(_, id, _)| *id == leader).map(|(member, ..)| *member);
            match number {
                Some(number) if seen.iter().all(|(.., found)| *found == leader) => Ok(number),
                _ => Err(vec![format!("{seen:x?}")]),
            }
        })
        .await
    }

    /// Checks that all running members come to the newest revision that one of them has, and have the same hash there.
    pub async fn assert_members_agree(&self) {
        let endpoints = self.endpoints();
        eventually("the same hash everywhere", async || {
            // A load may go on meanwhile: they are compared where they can be the same.
            let mut newest = 0;
            for endpoint in &endpoints {
                let status = endpoint.status().await.map_err(|status| status.to_string())?;
                newest = newest.max(status.header.map_or(0, |header| header.revision));
            }
            let mut found = Vec::new();
            for endpoint in &endpoints {
                let hash = endpoint.hash_kv(newest).await.map_err(|status| status.to_string())?;
                found.push((hash.hash_revision, hash.compact_revision, hash.hash));
            }
            let agree = found.iter().all(|other| Some(other) == found.first());
            if agree { Ok(()) } else { Err(format!("(revision, compacted, hash): {found:?}")) }
        })
        .await;
    }

    /// A member that ended by itself can be waited for in vain.
    async fn assert_alive(&self, member: usize) {
        if let Running::InProcess(server) = &self.members[member].running {
            let ended = tokio::time::timeout(Duration::ZERO, server.wait()).await;
            assert!(ended.is_err(), "member {member} has ended: {ended:?}");
        }
    }

    /// The members the cluster began with; or, of a member that came later, those it was added to.
    fn initial_cluster(&self, number: usize) -> InitialCluster {
        match &self.members[number].joins {
            Some(members) => members.clone(),
            None => InitialCluster::new(
                self.members.iter().filter(|member| member.joins.is_none()).map(listed),
            ),
        }
    }

    fn initial_state(&self, number: usize) -> ClusterState {
        match self.members[number].joins {
            Some(_) => ClusterState::Existing,
            None => ClusterState::New,
        }
    }

    fn builder(&self, number: usize) -> Builder {
        let member = &self.members[number];
        let builder = Server::builder()
            .name(&member.name)
            .data_dir(&member.dir)
            .client_listeners(vec![member.clients.listen()])
            .peer_listeners(vec![member.peers.listen()])
            .advertise_peer_urls(vec![peer_url(member)])
            .initial_cluster(self.initial_cluster(number))
            .initial_cluster_state(self.initial_state(number))
            .initial_cluster_token(self.token())
            .heartbeat_interval(HEARTBEAT_INTERVAL)
            .election_timeout(ELECTION_TIMEOUT)
            .client_threads(2);
        let builder = match &member.disk {
            Some(disk) => builder.disk(Arc::new(disk.clone())).backend(BackendKind::Memory),
            None => builder,
        };
        let builder = match member.clock.clone() {
            Some(clock) => builder.clock(move || clock.now()),
            None => builder,
        };
        (self.description.configure)(builder)
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let member = &self.members[number];
        let (clients, peers) = (member.clients.url(), member.peers.url());
        let state = match self.initial_state(number) {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        };
        let pairs = [
            ("name", member.name.clone()),
            ("data-dir", member.dir.display().to_string()),
            ("listen-client-urls", clients.clone()),
            ("advertise-client-urls", clients),
            ("listen-peer-urls", peers),
            ("initial-advertise-peer-urls", member.peers_find().url()),
            ("initial-cluster", self.initial_cluster(number).to_string()),
            ("initial-cluster-state", state.to_owned()),
            ("initial-cluster-token", self.token()),
            ("heartbeat-interval", HEARTBEAT_INTERVAL.as_millis().to_string()),
            ("election-timeout", ELECTION_TIMEOUT.as_millis().to_string()),
            ("log-format", "console".to_owned()),
        ];
        let own = pairs.into_iter().flat_map(|(flag, value)| [format!("--{flag}"), value]);
        own.chain(self.description.flags.iter().cloned()).collect()
    }

    /// Keeps clusters of different tests apart even where one finds the port of another.
    fn token(&self) -> String {
        self.dir.path().display().to_string()
    }
}

/// A member as the list of the first members has it.
pub(crate) fn listed(member: &Member) -> (String, Vec<ServerUrl>) {
    (member.name.clone(), vec![peer_url(member)])
}

/// Where a member's peers find it.
fn peer_url(member: &Member) -> ServerUrl {
    ServerUrl::http("127.0.0.1", member.peers_find().number())
}
