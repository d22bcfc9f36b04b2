//! What the system calls failed with.

use std::io;

/// The text of an error: the system's, in lower case and without its number.
pub fn text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match error.raw_os_error() {
        Some(number) => text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text),
        None => &text,
    };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_go_writes_it() {
        let error = std::fs::File::open("/nowhere/at/all").unwrap_err();
        assert_eq!(text(&error), "no such file or directory");
        assert_eq!(text(&io::Error::other("Odd")), "odd");
        assert_eq!(text(&io::Error::from_raw_os_error(21)), "is a directory");
    }
}
