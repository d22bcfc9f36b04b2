//! Sizes for people, as etcdctl shows them: powers of 1000, two digits or so.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A number of bytes such as `9 B`, `20 kB` or `1.3 MB`.
pub fn format(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale = 1u64;
    while bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    // Tenths, rounded half up.
    let tenths = (bytes as f64 / scale as f64 * 10.0 + 0.5).floor();
    let number = tenths / 10.0;
    if number < 10.0 {
        format!("{number:.1} {}", UNITS[unit])
    } else {
        format!("{number:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (24_576, "25 kB"),
            (1_250_000, "1.3 MB"),
            (9_949_999, "9.9 MB"),
            (9_950_000, "10 MB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(format(bytes), expected, "{bytes}");
        }
    }
}
