//! Members that come and go.

use std::time::Duration;

use kvorum_server::config::InitialCluster;
use tonic::{Code, Status};

use crate::cluster::{Cluster, Running, listed};
use crate::endpoint::Endpoint;
use crate::ports::Port;
use crate::wait::eventually;

/// How long a member that has been removed may go on before it has ended itself.
const END_TIME_MAX: Duration = Duration::from_secs(30);

impl Cluster {
    /// Adds a member, starts it and waits until it is ready: its number. With a vote it may still be catching up.
    pub async fn add_member(&mut self, is_learner: bool) -> usize {
        let member = self.announce_member(is_learner).await;
        self.restart(member).await;
        member
    }

    /// Adds a member and does not start it.
    pub async fn announce_member(&mut self, is_learner: bool) -> usize {
        let number = self.prepare_member();
        self.announce(number, is_learner).await;
        number
    }

    /// Tells the cluster of a member that was [prepared](Cluster::prepare_member).
    pub async fn announce(&mut self, number: usize, is_learner: bool) {
        let url = self.peer_url(number);
        let asked = self.some_endpoint(number);
        retried("a member to be added", async || match asked.member_add(&url, is_learner).await {
            // It was, by an attempt whose answer was lost.
            Err(status) if status.message() == "etcdserver: Peer URLs already exists" => Ok(()),
            answered => answered.map(drop),
        })
        .await;
    }

    /// Addresses and files for a member that is to join those there are, of which the cluster is not told.
    pub fn prepare_member(&mut self) -> usize {
        let number = self.members.len();
        let mut member = self.description.member(number, self.dir.path());
        let others = self.members.iter().filter(|other| !other.is_removed);
        let members = others.chain([&member]).map(listed).collect::<Vec<_>>();
        member.joins = Some(InitialCluster::new(members));
        self.members.push(member);
        number
    }

    /// Removes a member; if it runs, waits until it has ended itself.
    pub async fn remove_member(&mut self, member: usize) {
        let id = self.id(member).await;
        let asked = self.some_endpoint(member);
        retried("a member to be removed", async || match asked.member_remove(id).await {
            Err(status) if status.message() == "etcdserver: member not found" => Ok(()),
            answered => answered.map(drop),
        })
        .await;
        self.members[member].is_removed = true;
        if self.is_running(member) {
            self.wait_removed(member).await;
        }
    }

    /// Waits until a member that was removed has ended itself, and well.
    pub async fn wait_removed(&mut self, member: usize) {
        match std::mem::replace(&mut self.members[member].running, Running::No) {
            Running::No => panic!("member {member} is dead already"),
            Running::InProcess(server) => {
                let ended = tokio::time::timeout(END_TIME_MAX, server.wait()).await;
                let ended = ended.unwrap_or_else(|_| panic!("member {member} goes on"));
                let error = ended.expect_err("it has a reason");
                assert!(error.is_removed(), "member {member} ended: {error}");
            }
            Running::Process(mut process) => {
                let status = process.wait(END_TIME_MAX);
                assert!(status.success(), "{status}\n{}", process.last_log_lines());
                assert!(process.log().contains("removed from the cluster"), "{}", process.log());
            }
        }
    }

    /// Kills a member for good, removes it, and adds another: its number.
    pub async fn replace_member(&mut self, member: usize) -> usize {
        self.kill(member);
        self.remove_member(member).await;
        self.add_member(false).await
    }

    /// Gives a running member another address for its peers: tells the cluster, ends the member, and starts it there.
    pub async fn move_member(&mut self, member: usize) {
        let id = self.id(member).await;
        let port = Port::reserve();
        let (url, asked) = (port.url(), self.some_endpoint(member));
        retried("an address to change", async || asked.member_update(id, &url).await).await;
        self.stop(member).await;
        self.members[member].peers = port;
        self.restart(member).await;
    }

    /// A member's id, by its address: of dead ones too.
    pub async fn id(&self, member: usize) -> u64 {
        let (url, endpoints) = (self.peer_url(member), self.endpoints());
        eventually(&format!("member {member} in the list"), async || {
            let mut seen = Vec::new();
            // Not all of them can tell: a learner does not.
            for asked in &endpoints {
                match asked.member_list().await {
                    Ok(members) => {
                        let own = members.iter().find(|found| found.peer_ur_ls.contains(&url));
                        if let Some(own) = own {
                            return Ok(own.id);
                        }
                        seen.push(format!("{members:?}"));
                    }
                    Err(status) => seen.push(status.to_string()),
                }
            }
            Err(seen)
        })
        .await
    }

    /// A running member to ask: another than this one, if there is another.
    fn some_endpoint(&self, but: usize) -> Endpoint {
        let running = (0..self.len()).filter(|member| self.is_running(*member));
        let others = running.clone().filter(|member| *member != but);
        let asked = others.chain(running).next().expect("a member runs");
        self.endpoint(asked)
    }
}

/// Asks until it is done. A cluster without a leader, or one whose members have just met, says so.
async fn retried<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    let asked = eventually(what, async || match ask().await {
        Err(status) if is_passing(&status) => Err(status),
        answered => Ok(answered),
    });
    asked.await.unwrap_or_else(|status| panic!("{what}: {status}"))
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        || status.message().contains("not enough started members")
}
