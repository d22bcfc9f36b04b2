//! Answers as text, in etcdctl's five formats.
//!
//! | format | for | shows |
//! |---|---|---|
//! | simple | people, and scripts that want a value | the essential, a line each |
//! | fields | `grep` | every field, a line each |
//! | table | people | members and endpoints only |
//! | json | programs | every field that is not zero; keys and values in base64 |
//! | protobuf | programs | the answer's own bytes |

mod admin;
mod fields;
pub mod heap;
mod json;
mod lease;
mod protobuf;
mod rows;
mod simple;
mod table;

use std::io::Write;

use kvorum_client::api::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberListResponse,
    PutResponse, RangeResponse, StatusResponse, TxnResponse, WatchResponse,
};

use crate::failure::{BAD_FEATURE, Failure};

/// Whether an endpoint is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// As it was given.
    pub endpoint: String,
    /// It answered a linearizable read and no alarm is on.
    pub healthy: bool,
    /// How long the read took, as Go prints durations; empty if none was made.
    pub took: String,
    /// What is wrong; empty if nothing is.
    pub error: String,
}

/// How an endpoint answered.
pub type At<Answer> = (String, Answer);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// Prints answers in one format.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
    /// Keys and values as `\x61`; in JSON, members' ids in hexadecimal.
    hex: bool,
    /// No keys, only values.
    values_only: bool,
}

impl Printer {
    /// The printer for a format's name.
    pub fn new(format: &str, hex: bool) -> Result<Printer, Failure> {
        let format = match format {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Failure::new(BAD_FEATURE, "unsupported output format")),
        };
        Ok(Printer { format, hex, values_only: false })
    }

    /// Whether the format is simple.
    pub fn is_simple(&self) -> bool {
        self.format == Format::Simple
    }

    /// Whether the format is JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether the format shows fields.
    pub fn is_fields(&self) -> bool {
        self.format == Format::Fields
    }

    /// The same printer leaving keys out.
    pub fn values_only(self) -> Printer {
        Printer { values_only: true, ..self }
    }

    fn simple(&self) -> simple::Simple {
        simple::Simple { hex: self.hex, values_only: self.values_only }
    }

    /// A range's keys.
    pub fn range(&self, out: &mut dyn Write, answer: &RangeResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.simple().range(out, answer)?,
            Format::Fields => fields::range(out, answer)?,
            Format::Json => json::line(out, json::range(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// What became of a put.
    pub fn put(&self, out: &mut dyn Write, answer: &PutResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.simple().put(out, answer)?,
            Format::Fields => fields::put(out, answer)?,
            Format::Json => json::line(out, json::put(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// What became of a delete.
    pub fn delete(&self, out: &mut dyn Write, answer: &DeleteRangeResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.simple().delete(out, answer)?,
            Format::Fields => fields::delete(out, answer)?,
            Format::Json => json::line(out, json::delete(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// What became of a transaction.
    pub fn txn(&self, out: &mut dyn Write, answer: &TxnResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.simple().txn(out, answer)?,
            Format::Fields => fields::txn(out, answer)?,
            Format::Json => json::line(out, json::txn(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// What a watch was told. One that ended before a server had a word on it has no header.
    pub fn watch(&self, out: &mut dyn Write, answer: &WatchResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.simple().watch(out, answer)?,
            Format::Fields => fields::watch(out, answer)?,
            Format::Json => json::line(out, json::watch(answer))?,
            Format::Protobuf => {
                let header = Some(answer.header.unwrap_or_default());
                protobuf::write(out, &WatchResponse { header, ..answer.clone() })?;
            }
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// A lease that was granted.
    pub fn lease_grant(
        &self,
        out: &mut dyn Write,
        answer: &LeaseGrantResponse,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lease::simple_grant(out, answer)?,
            Format::Fields => lease::fields_grant(out, answer)?,
            Format::Json => json::line(out, lease::json_grant(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// A lease that was revoked.
    pub fn lease_revoke(
        &self,
        out: &mut dyn Write,
        id: i64,
        answer: &LeaseRevokeResponse,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lease::simple_revoke(out, id)?,
            Format::Fields => lease::fields_revoke(out, answer)?,
            Format::Json => json::line(out, lease::json_revoke(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// A lease that was renewed.
    pub fn lease_keep_alive(
        &self,
        out: &mut dyn Write,
        answer: &LeaseKeepAliveResponse,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lease::simple_keep_alive(out, answer)?,
            Format::Fields => lease::fields_keep_alive(out, answer)?,
            Format::Json => json::line(out, lease::json_keep_alive(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// How long a lease has left; `keys` if its keys were asked for.
    pub fn lease_time_to_live(
        &self,
        out: &mut dyn Write,
        keys: bool,
        answer: &LeaseTimeToLiveResponse,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lease::simple_time_to_live(out, keys, answer)?,
            Format::Fields => lease::fields_time_to_live(out, answer)?,
            Format::Json => json::line(out, lease::json_time_to_live(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// All leases.
    pub fn leases(&self, out: &mut dyn Write, answer: &LeaseLeasesResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lease::simple_list(out, answer)?,
            Format::Fields => lease::fields_list(out, answer)?,
            Format::Json => json::line(out, lease::json_list(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// The members.
    pub fn members(&self, out: &mut dyn Write, answer: &MemberListResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => simple::rows(out, &rows::members(answer))?,
            Format::Fields => fields::members(out, answer)?,
            Format::Json if self.hex => json::line(out, json::members_hex(answer))?,
            Format::Json => json::line(out, json::members(answer))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => table::write(out, &rows::MEMBERS, &rows::members(answer))?,
        }
        Ok(())
    }

    /// How endpoints are. What is unhealthy is told on `err` in the simple format.
    pub fn health(
        &self,
        out: &mut dyn Write,
        err: &mut dyn Write,
        endpoints: &[Health],
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => simple::health(out, err, endpoints)?,
            Format::Fields => fields::health(out, endpoints)?,
            Format::Json => writeln!(out, "{}", json::health(endpoints))?,
            Format::Table => table::write(out, &rows::HEALTH, &rows::health(endpoints))?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Endpoints' own views.
    pub fn status(
        &self,
        out: &mut dyn Write,
        endpoints: &[At<StatusResponse>],
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => simple::rows(out, &rows::status(endpoints))?,
            Format::Fields => fields::status(out, endpoints)?,
            Format::Json => writeln!(out, "{}", json::status(endpoints))?,
            Format::Table => table::write(out, &rows::STATUS, &rows::status(endpoints))?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Checksums of endpoints' histories.
    pub fn hashes(
        &self,
        out: &mut dyn Write,
        endpoints: &[At<HashKvResponse>],
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => simple::rows(out, &rows::hashes(endpoints))?,
            Format::Fields => fields::hashes(out, endpoints)?,
            Format::Json => writeln!(out, "{}", json::hashes(endpoints))?,
            Format::Table => table::write(out, &rows::HASHES, &rows::hashes(endpoints))?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }

    fn unsupported(&self) -> Failure {
        let name = match self.format {
            Format::Table => "table",
            Format::Fields => "fields",
            _ => "protobuf",
        };
        Failure::new(BAD_FEATURE, format!("{name} not supported as output format"))
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod admin_tests;
#[cfg(test)]
#[path = "lease_tests.rs"]
mod lease_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
