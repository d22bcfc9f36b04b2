//! What became of changes to the cluster: its members, its leader, its alarms, its version.
//!
//! Of most of these answers etcdctl shows neither fields nor a table.

use std::io;
use std::io::Write;

use kvorum_client::api::etcdserverpb::{
    AlarmResponse, DowngradeResponse, Member, MemberAddResponse, MemberPromoteResponse,
    MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse, ResponseHeader,
};
use prost::Message;

use super::{Format, Printer, fields, json, protobuf};
use crate::failure::Failure;
use crate::go::json::Object;
use crate::go::quote::quoted;

impl Printer {
    /// A member that was added under this name, and in the simple format the settings to start it with.
    pub fn member_add(
        &self,
        out: &mut dyn Write,
        name: &str,
        peer_urls: &str,
        answer: &MemberAddResponse,
    ) -> Result<(), Failure> {
        let added = answer.member.clone().unwrap_or_default();
        let line = told(added.id, "added to", answer.header);
        let object = json::with_header(answer.header)
            .object("member", answer.member.as_ref().map(json::member_object))
            .list("members", answer.members.iter().map(json::member));
        self.change(out, &line, object, answer)?;
        if self.is_simple() {
            writeln!(out)?;
            settings(out, name, peer_urls, &added, &answer.members)?;
        }
        Ok(())
    }

    /// A member that was removed.
    pub fn member_remove(
        &self,
        out: &mut dyn Write,
        id: u64,
        answer: &MemberRemoveResponse,
    ) -> Result<(), Failure> {
        let line = told(id, "removed from", answer.header);
        self.change(out, &line, members(answer.header, &answer.members), answer)
    }

    /// A member that has other peer URLs now.
    pub fn member_update(
        &self,
        out: &mut dyn Write,
        id: u64,
        answer: &MemberUpdateResponse,
    ) -> Result<(), Failure> {
        let line = told(id, "updated in", answer.header);
        self.change(out, &line, members(answer.header, &answer.members), answer)
    }

    /// A learner that has a vote now.
    pub fn member_promote(
        &self,
        out: &mut dyn Write,
        id: u64,
        answer: &MemberPromoteResponse,
    ) -> Result<(), Failure> {
        let line = told(id, "promoted in", answer.header);
        self.change(out, &line, members(answer.header, &answer.members), answer)
    }

    /// A leadership that was handed over.
    pub fn move_leader(
        &self,
        out: &mut dyn Write,
        from: u64,
        to: u64,
        answer: &MoveLeaderResponse,
    ) -> Result<(), Failure> {
        let line = format!("Leadership transferred from {from:x} to {to:x}");
        self.change(out, &line, json::with_header(answer.header), answer)
    }

    /// A downgrade that can be made, was begun or was stopped: `what` says which.
    pub fn downgrade(
        &self,
        out: &mut dyn Write,
        what: &str,
        answer: &DowngradeResponse,
    ) -> Result<(), Failure> {
        let line = format!("Downgrade {what} success, cluster version {}", answer.version);
        let object = json::with_header(answer.header).text("version", &answer.version);
        self.change(out, &line, object, answer)
    }

    /// Alarms that are on, or that were ended.
    pub fn alarms(&self, out: &mut dyn Write, answer: &AlarmResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => {
                for alarm in &answer.alarms {
                    // The blank at the end is Go's, and scripts may have come to expect it.
                    let kind = alarm.alarm().as_str_name();
                    writeln!(out, "memberID:{} alarm:{kind} ", alarm.member_id)?;
                }
            }
            Format::Fields => {
                fields::header(out, answer.header)?;
                for alarm in &answer.alarms {
                    writeln!(out, "\"MemberID\" : {}", alarm.member_id)?;
                    writeln!(out, "\"AlarmType\" : {}", alarm.alarm().as_str_name())?;
                    writeln!(out)?;
                }
            }
            Format::Json => {
                let alarms = answer.alarms.iter().map(|alarm| {
                    let shown = Object::new().number("memberID", alarm.member_id);
                    shown.number("alarm", alarm.alarm).finish()
                });
                json::line(out, json::with_header(answer.header).list("alarms", alarms))?;
            }
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// An answer that has a line of its own, JSON, and no other form.
    fn change(
        &self,
        out: &mut dyn Write,
        line: &str,
        object: Object,
        answer: &impl Message,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => writeln!(out, "{line}")?,
            Format::Json => json::line(out, object)?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Fields | Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }
}

/// Ids that are short are padded with blanks, as etcdctl does it.
fn told(id: u64, what: &str, header: Option<ResponseHeader>) -> String {
    format!("Member {id:16x} {what} cluster {:16x}", header.unwrap_or_default().cluster_id)
}

fn members(header: Option<ResponseHeader>, members: &[Member]) -> Object {
    json::with_header(header).list("members", members.iter().map(json::member))
}

/// What the environment of an added member has to say.
fn settings(
    out: &mut dyn Write,
    name: &str,
    peer_urls: &str,
    added: &Member,
    members: &[Member],
) -> io::Result<()> {
    let cluster = members.iter().flat_map(|member| {
        let shown = if member.id == added.id { name } else { member.name.as_str() };
        member.peer_ur_ls.iter().map(move |url| format!("{shown}={url}"))
    });
    let cluster = cluster.collect::<Vec<_>>().join(",");
    let mut line =
        |variable: &str, value: &str| writeln!(out, "ETCD_{variable}={}", quoted(value.as_bytes()));
    line("NAME", name)?;
    line("INITIAL_CLUSTER", &cluster)?;
    line("INITIAL_ADVERTISE_PEER_URLS", peer_urls)?;
    line("INITIAL_CLUSTER_STATE", "existing")
}
