//! What is known of a member's memory: a name and a value a line, whatever the answer is.

use std::io::Write;

use prost::Message;

use super::{Format, Printer, json, protobuf};
use crate::failure::Failure;
use crate::go::json::{Object, string};

/// A value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i128),
    Switch(bool),
    Text(String),
    /// Rows of their own.
    Rows(Vec<Row>),
}

/// A name and its value.
pub type Row = (String, Value);

impl Value {
    fn json(&self) -> String {
        match self {
            Value::Number(number) => number.to_string(),
            Value::Switch(on) => on.to_string(),
            Value::Text(text) => string(text),
            Value::Rows(rows) => object(rows).finish(),
        }
    }
}

impl Printer {
    /// An answer whose fields are `rows`.
    pub fn heap(
        &self,
        out: &mut dyn Write,
        rows: &[Row],
        answer: &impl Message,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => lines(out, rows, |name, value| format!("{name}: {value}"))?,
            Format::Fields => lines(out, rows, |name, value| format!("\"{name}\" : {value}"))?,
            Format::Json => json::line(out, object(rows))?,
            Format::Protobuf => protobuf::write(out, answer)?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }
}

fn object(rows: &[Row]) -> Object {
    rows.iter().fold(Object::new(), |object, (name, value)| object.always(name, &value.json()))
}

/// One line a value; a row within a row has the names of both.
fn lines(out: &mut dyn Write, rows: &[Row], line: fn(&str, &str) -> String) -> std::io::Result<()> {
    for (name, value) in flat(rows) {
        let shown = match value {
            Value::Text(text) => text.clone(),
            other => other.json(),
        };
        writeln!(out, "{}", line(&name, &shown))?;
    }
    Ok(())
}

/// The rows, those within them behind their own names.
fn flat(rows: &[Row]) -> Vec<(String, &Value)> {
    let mut flat = Vec::new();
    for (name, value) in rows {
        match value {
            Value::Rows(inner) => {
                flat.extend(inner.iter().map(|(part, value)| (format!("{name}.{part}"), value)));
            }
            value => flat.push((name.clone(), value)),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use kvorum_client::admin::PurgeResponse;

    use super::*;

    fn printed(format: &str) -> String {
        let rows = [
            ("allocated_bytes".to_owned(), Value::Number(7)),
            ("policy".to_owned(), Value::Text("compact".to_owned())),
            ("purges".to_owned(), Value::Rows(vec![("quiet".to_owned(), Value::Switch(true))])),
        ];
        let mut out = Vec::new();
        let printer = Printer::new(format, false).unwrap();
        printer.heap(&mut out, &rows, &PurgeResponse::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_printed_a_line_a_value_or_as_json() {
        let simple = "allocated_bytes: 7\npolicy: compact\npurges.quiet: true\n";
        assert_eq!(printed("simple"), simple);
        let fields = "\"allocated_bytes\" : 7\n\"policy\" : compact\n\"purges.quiet\" : true\n";
        assert_eq!(printed("fields"), fields);
        let json = "{\"allocated_bytes\":7,\"policy\":\"compact\",\"purges\":{\"quiet\":true}}\n";
        assert_eq!(printed("json"), json);
        assert_eq!(printed("protobuf"), "");
    }
}
