//! The simple format.

use std::fmt::Write as _;
use std::io::{Result, Write};

use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse, WatchResponse,
};
use kvorum_client::api::mvccpb::KeyValue;

use super::Health;

/// How keys and values are shown.
pub struct Simple {
    pub hex: bool,
    pub values_only: bool,
}

impl Simple {
    pub fn range(&self, out: &mut dyn Write, answer: &RangeResponse) -> Result<()> {
        answer.kvs.iter().try_for_each(|kv| self.key_value(out, kv))
    }

    pub fn put(&self, out: &mut dyn Write, answer: &PutResponse) -> Result<()> {
        writeln!(out, "OK")?;
        answer.prev_kv.iter().try_for_each(|kv| self.key_value(out, kv))
    }

    pub fn delete(&self, out: &mut dyn Write, answer: &DeleteRangeResponse) -> Result<()> {
        writeln!(out, "{}", answer.deleted)?;
        answer.prev_kvs.iter().try_for_each(|kv| self.key_value(out, kv))
    }

    pub fn txn(&self, out: &mut dyn Write, answer: &TxnResponse) -> Result<()> {
        writeln!(out, "{}", if answer.succeeded { "SUCCESS" } else { "FAILURE" })?;
        for operation in &answer.responses {
            writeln!(out)?;
            match &operation.response {
                Some(Response::ResponseRange(answer)) => self.range(out, answer)?,
                Some(Response::ResponsePut(answer)) => self.put(out, answer)?,
                Some(Response::ResponseDeleteRange(answer)) => self.delete(out, answer)?,
                Some(Response::ResponseTxn(_)) | None => writeln!(out, "unexpected response")?,
            }
        }
        Ok(())
    }

    pub fn watch(&self, out: &mut dyn Write, answer: &WatchResponse) -> Result<()> {
        for event in &answer.events {
            writeln!(out, "{}", event.r#type().as_str_name())?;
            event.prev_kv.iter().chain(&event.kv).try_for_each(|kv| self.key_value(out, kv))?;
        }
        Ok(())
    }

    fn key_value(&self, out: &mut dyn Write, kv: &KeyValue) -> Result<()> {
        if !self.values_only {
            self.bytes(out, &kv.key)?;
        }
        self.bytes(out, &kv.value)
    }

    fn bytes(&self, out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
        if self.hex {
            return writeln!(out, "{}", hexadecimal(bytes));
        }
        out.write_all(bytes)?;
        out.write_all(b"\n")
    }
}

/// Every byte as `\x61`.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 4), |mut text, byte| {
        write!(text, "\\x{byte:02x}").expect("a String takes it");
        text
    })
}

/// A line for each row.
pub fn rows(out: &mut dyn Write, rows: &[Vec<String>]) -> Result<()> {
    rows.iter().try_for_each(|row| writeln!(out, "{}", row.join(", ")))
}

/// A line for each endpoint, on `err` if it is unhealthy.
pub fn health(out: &mut dyn Write, err: &mut dyn Write, endpoints: &[Health]) -> Result<()> {
    for Health { endpoint, took, error, .. } in endpoints {
        if error.is_empty() {
            writeln!(out, "{endpoint} is healthy: successfully committed proposal: took = {took}")?;
        } else {
            writeln!(err, "{endpoint} is unhealthy: failed to commit proposal: {error}")?;
        }
    }
    Ok(())
}
