//! JSON as Go's package encoding/json writes it: no spaces, bytes in base64, zero values left out where a field says so,
//! and `<`, `>` and `&` escaped in strings.

use std::fmt::{Display, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An object, built field by field in the order it is written.
///
/// A field is left out when it is zero, false or empty ("omitempty"); `always` writes it nevertheless.
pub struct Object {
    out: String,
}

impl Object {
    /// An object without fields.
    pub fn new() -> Object {
        Object { out: String::from("{") }
    }

    /// A number.
    pub fn number<N: Display + Default + PartialEq>(self, name: &str, number: N) -> Object {
        if number == N::default() { self } else { self.raw(name, &number.to_string()) }
    }

    /// A bool.
    pub fn flag(self, name: &str, flag: bool) -> Object {
        if flag { self.raw(name, "true") } else { self }
    }

    /// A string.
    pub fn text(self, name: &str, text: &str) -> Object {
        if text.is_empty() { self } else { self.raw(name, &string(text)) }
    }

    /// Bytes.
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Object {
        if bytes.is_empty() {
            self
        } else {
            self.raw(name, &format!("\"{}\"", STANDARD.encode(bytes)))
        }
    }

    /// An object, if there is one.
    pub fn object(self, name: &str, object: Option<Object>) -> Object {
        match object {
            Some(object) => self.raw(name, &object.finish()),
            None => self,
        }
    }

    /// A list of values that are JSON already.
    pub fn list(self, name: &str, items: impl IntoIterator<Item = String>) -> Object {
        let items: Vec<String> = items.into_iter().collect();
        if items.is_empty() { self } else { self.raw(name, &array(items)) }
    }

    /// A value that is JSON already, whatever it is.
    pub fn always(self, name: &str, json: &str) -> Object {
        self.raw(name, json)
    }

    /// The text of the whole object.
    pub fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }

    fn raw(mut self, name: &str, json: &str) -> Object {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        self.out.push_str(&string(name));
        self.out.push(':');
        self.out.push_str(json);
        self
    }
}

/// A list of values that are JSON already.
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// A string.
pub fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes it");
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{Object, array, string};

    #[test]
    fn strings() {
        assert_eq!(
            string("a\"\\\n\t\x01<&>\u{20ac}\u{2028}"),
            "\"a\\\"\\\\\\n\\t\\u0001\\u003c\\u0026\\u003e\u{20ac}\\u2028\""
        );
    }

    #[test]
    fn empty_fields_are_left_out() {
        let inner = Object::new().number("n", 0).flag("f", false).text("t", "").bytes("b", b"");
        let whole = Object::new()
            .object("inner", Some(inner))
            .object("none", None)
            .number("n", -1)
            .flag("f", true)
            .bytes("b", b"foo")
            .list("l", [string("x"), string("y")])
            .list("e", [])
            .always("a", "0");
        assert_eq!(
            whole.finish(),
            r#"{"inner":{},"n":-1,"f":true,"b":"Zm9v","l":["x","y"],"a":0}"#
        );
        assert_eq!(array([]), "[]");
    }
}
